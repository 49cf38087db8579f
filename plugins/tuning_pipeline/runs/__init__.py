"""Which run this is, what it goes on with, and that it is alone on its study."""
