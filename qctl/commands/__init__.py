"""The commands of qctl. MODULES in main.py names the module of each; `command` there is the click command."""
