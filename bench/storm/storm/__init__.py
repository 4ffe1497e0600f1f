"""The same storms against several ways of calling a rate-limited API, in compressed real time."""
