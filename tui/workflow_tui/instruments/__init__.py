"""What the panels of the Train screen can show: each instrument turns a scene into a chart or into lines."""
