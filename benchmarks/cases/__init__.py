"""The cases: each says which contenders run, and makes measurements of what they report."""
