"""The commands of users, a module for each noun; they are imported when they are asked for."""
