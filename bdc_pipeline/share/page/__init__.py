"""The cache page: how a shared database stands, in the browser, and buttons for what one can do about it.

`facts.py` says what is shown, as plain values; `elements.py` shows it; `server.py` serves it on loopback. NiceGUI brings
everything that the page needs with it, fonts and plots included: it works without the internet. It is imported when a
page is served, not before.
"""
