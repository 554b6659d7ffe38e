"""Old names of `lnliquid.console`, for the operator's commands until they are switched to it."""

from lnliquid.console import clean_errors as clean_errors
from lnliquid.console import plain as plain
from lnliquid.console import quiet_log as quiet_log
from lnliquid.console import say as say
from lnliquid.console import show as show
from lnliquid.console import show_json as show_json
