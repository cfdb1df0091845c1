"""Networks that tell what is forged from what is shown and from who is shown.

Start reading at `network.DisentanglingNetwork`.
"""
