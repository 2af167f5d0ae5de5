"""Pictures that show a person that it worked."""
