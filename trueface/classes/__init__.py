"""Class unlearning: a second small laboratory, of networks that tell any number of classes apart.

Its kinds are `classify`, which trains such a network, and `forget`, which makes it forget a class.
"""
