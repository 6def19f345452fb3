"""How alike two networks are inside: CKA, as docs/similarity.md defines it."""
