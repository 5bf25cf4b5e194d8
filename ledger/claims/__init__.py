"""Claims about images: opened by a person, examined and decided by published rules, answered, appealed, closed."""
