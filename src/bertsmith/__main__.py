"""`python -m bertsmith` is the command `bertsmith`."""

from bertsmith.cli import main

if __name__ == "__main__":
    main()
