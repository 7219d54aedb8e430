"""One legend for what a dataset and a model call by the same codes."""

from landcover.errors import LegendError
from landcover.legend import Legend


def joint_legend(reference: Legend, model: Legend) -> Legend:
    """Classes of the dataset, then those that only the model has.

    Raises LegendError where a code or a name means two things, or no class is common.
    """
    if not set(reference.codes) & set(model.codes):
        raise LegendError(
            f"The model's classes (codes {list(model.codes)}) and the dataset's (codes "
            f"{list(reference.codes)}) have none in common; map the labels to the model's codes."
        )
    for one in model.classes:
        if one.code in reference and reference[one.code].name.casefold() != one.name.casefold():
            raise LegendError(
                f"The class code {one.code} is '{one.name}' to the model and '{reference[one.code].name}' in "
                "the dataset; map the labels to the model's codes."
            )
        twin = [c for c in reference.classes if c.name.casefold() == one.name.casefold()]
        if twin and twin[0].code != one.code:
            raise LegendError(
                f"The class '{one.name}' has the code {one.code} in the model and {twin[0].code} in the "
                "dataset; map the labels to the model's codes."
            )
    extra = tuple(c for c in model.classes if c.code not in reference)
    return Legend((*reference.classes, *extra))
