"""A device for tests in a process of its own: pymodbus' simulator with 20 of each kind of value.

python modbus_simulator.py PORT
"""

from __future__ import annotations

import sys

from pymodbus.server import StartTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

bits = [number % 3 == 0 for number in range(20)]
registers = [number * 1000 for number in range(20)]

StartTcpServer(
    SimDevice(
        id=1,
        simdata=(
            [SimData(0, values=bits, datatype=DataType.BITS)],
            [SimData(0, values=bits[::-1], datatype=DataType.BITS)],
            [SimData(0, values=registers, datatype=DataType.REGISTERS)],
            [SimData(0, values=registers[::-1], datatype=DataType.REGISTERS)],
        ),
    ),
    address=("127.0.0.1", int(sys.argv[1])),
)
