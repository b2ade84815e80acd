"""A seeded generator of rows that look like the hosted dataset, and are marked as synthetic.

It stands outside of the package: users need the rows that it wrote, not the program.
"""
