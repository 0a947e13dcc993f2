"""Cloud Functions, one folder each: main.py has the function, requirements.txt what it needs."""
