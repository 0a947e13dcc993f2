"""A month hour by hour and a year, with a moved clock: what grows, and what an hour costs at its end."""
