"""Classes of prototypes by the names that a person gave them. Nothing is matched. NumPy only.

Letters: K prototypes, C classes.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from slotseg.eval.matching import UNMATCHED
from slotseg.labels.naming import Naming, name_key

NAMED_ON = "nothing: named by a person"
"""Value of ``Provenance.matched_on`` if a person named the prototypes."""


def assign_by_name(
    names: Naming, num_prototypes: int, classes: Sequence[str]
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Give each prototype the class of its name. Case, spaces, hyphens and underscores do not matter.

    Args:
        names: Names that a person gave.
        num_prototypes: Number of prototypes, K.
        classes: Names of the C classes.

    Returns:
        Class of each prototype, shape ``(K,)``, and the names that are no class. A prototype is ``UNMATCHED`` if it is
        ignored, has no name, or has such a name.

    Raises:
        DataError: If the names are for another number of prototypes.
    """
    names.check(num_prototypes)
    ids = {name_key(name): i for i, name in reversed(list(enumerate(classes)))}
    given = [names.name_of(k) for k in range(num_prototypes)]
    assignment = np.array(
        [UNMATCHED if name is None else ids.get(name_key(name), UNMATCHED) for name in given], np.int64
    )
    unknown = {name_key(name): name for name in given if name is not None and name_key(name) not in ids}
    return assignment, tuple(unknown[key] for key in sorted(unknown))
