"""Last layers fitted in closed form: ridge regression on the features of a frozen body.

Start reading at `fit.fit`. No gradient, no epochs: the same features give the same layer.
"""
