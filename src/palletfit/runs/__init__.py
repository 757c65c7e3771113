"""Making a product of many patches: tasks, records, resume, and the state of a run.

Knows no executor and no single product.
"""
