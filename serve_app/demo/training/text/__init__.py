"""How demo/llada2-tiny is made: a corpus of a small world, a tokenizer, a network, its training and its evaluation.

Not in the wheel. README.md beside this file says what each step needs.
"""
