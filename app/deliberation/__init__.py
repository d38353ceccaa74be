"""Deliberation: from consultations to an adopted list of common issues, priorities and trends.

The pure part (weights, aggregation, explanation, double majority, trends, disclosure, heat map) knows no database and
no web; the rest gathers what a caller may read, hands it to the pure part, and puts the answer on the wire.
"""
