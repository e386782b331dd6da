"""The same model and the same texts behind what people use today, each in a virtual environment of its own.

A peer is a small server as its own documentation would have it written, in a file of its own here. What it
needs is installed on demand into `.bench/`; torch and the model come from the project's environment.
"""
