#!/bin/sh
# Prints the path of a Python that can carry the platform: 3.11 (what Cloud Composer runs) before 3.12, with venv and pip.
# Tries every one on PATH, so that a version manager's shim without a version behind it is passed over.
# Where none will do it prints any Python it found, for the preflight to say what is wrong with it.
fallback=
old_ifs=$IFS
IFS=:
for name in python3.11 python3.12 python3 python; do
    for folder in $PATH; do
        candidate=$folder/$name
        [ -x "$candidate" ] || continue
        if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' >/dev/null 2>&1; then
            echo "$candidate"
            exit 0
        fi
        # A Python of the right age without venv says more than one of the wrong age.
        if [ -z "$fallback" ] && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3,))' >/dev/null 2>&1; then
            fallback=$candidate
        fi
    done
done
IFS=$old_ifs
[ -n "$fallback" ] && echo "$fallback"
