"""Instructions that Numba does not offer, written in LLVM's language. In compiled code only.

Besides `compiled`, the only module that uses what is below Numba's surface; see docs/decisions/0022.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from llvmlite import ir
from numba.core import types
from numba.core.cgutils import get_or_insert_function
from numba.extending import intrinsic

_READ, _KEEP, _DATA = 0, 3, 1  # arguments of LLVM's prefetch: for reading, in all caches, data


@intrinsic
def _prefetch(_context: Any, array: Any, index: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        flag, pointer = ir.IntType(32), ir.IntType(8).as_pointer()
        function = get_or_insert_function(  # type: ignore[no-untyped-call]
            builder.module, ir.FunctionType(ir.VoidType(), [pointer, flag, flag, flag]), "llvm.prefetch.p0"
        )
        address = builder.bitcast(builder.gep(data, [arguments[1]]), pointer)
        builder.call(function, [address, flag(_READ), flag(_KEEP), flag(_DATA)])
        return context.get_dummy_value()

    return types.void(array, index), generate


@intrinsic
def _trailing_zeros(_context: Any, value: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        of_zero_is_defined = ir.IntType(1)(0)
        return builder.cttz(arguments[0], of_zero_is_defined)

    return value(value), generate


# prefetch(array, i) fetches the cache line of the i-th element of a contiguous array of any shape,
# without waiting for it: most of a look-up in a big table is waiting. It changes nothing but the time
# that the next access takes.
prefetch = cast(Callable[[Any, Any], None], _prefetch)

# trailing_zeros(n) is the number of zero bits below the lowest one bit, or the width for 0.
trailing_zeros = cast(Callable[[Any], Any], _trailing_zeros)
