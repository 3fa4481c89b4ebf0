import no_such_module_x
from good import ok
