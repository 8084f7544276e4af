"""What a store needs no more is removed: `marks` judges, `rewrite` copies a tar, `run` acts.

Facts: storage format, section 7.2. A tar of which less than three quarters are kept is
written anew under the next letter, and the old one removed: at every moment one of
both is whole, and the one that counts holds all that a head needs.
"""
