"""Why a port cannot be opened, in words."""

import errno
import socket


def port_problem(error: OSError) -> str:
    """What is wrong with a port that cannot be opened. Empty: the port is not at fault.

    >>> port_problem(OSError(errno.EADDRINUSE, ""))
    'is in use by another program; choose another'
    """
    if error.errno == errno.EADDRINUSE:
        return "is in use by another program; choose another"
    return "needs root; choose one from 1024 on" if error.errno == errno.EACCES else ""


def host_problem(error: OSError) -> str:
    """What is wrong with a host on which no port can be opened. Empty: the host is not at fault."""
    is_strange = error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror)
    return "is no address of this machine" if is_strange else ""
