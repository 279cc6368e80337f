# Nothing is done here.
