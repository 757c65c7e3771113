"""How a product of many patches is made: tasks, records, resume, and the state of a run.

Knows no executor and no single product.
"""
