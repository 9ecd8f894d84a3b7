from app.health import Paths

NAME = "x"
BASE_PATH = ""
PATHS = Paths()
ROUTERS = ()
