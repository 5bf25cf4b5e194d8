"""The artist's desk: who acts for an artist here, and what they can do about their works."""
