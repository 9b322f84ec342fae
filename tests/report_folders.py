"""Folders of reports without a table of facts, of phantom pictures: IU X-ray, MIMIC-CXR, and DICOM with a CSV."""

import numpy as np
from layouts import dicom, encoded, openi_xml, put, table
from PIL import Image

from medalign_lite.world.dataset import build_cases


def openi_reports(folder, cases):
    for case in cases:
        name = f"CXR{case.id.replace('-', '')}"
        put(folder, f"NLMCXR_png/{name}-1001.png", case.image.read_bytes())
        put(folder, f"ecgen-radiology/{name}.xml", openi_xml(report_of(case), "", f"{name}-1001"))


def mimic_reports(folder, cases):
    names, splits, views = {"val": "validate"}, [], []
    for n, case in enumerate(cases):
        place = f"files/p10/p{10000000 + n}/s{50000000 + n}"
        put(folder, f"{place}/{case.id}.jpg", encoded(Image.open(case.image), "JPEG", quality=95))
        put(folder, f"{place}.txt", f"EXAMINATION: CHEST\n\nFINDINGS:\n{report_of(case)}\n")
        splits.append((case.id, 50000000 + n, 10000000 + n, names.get(case.split, case.split)))
        views.append((case.id, "PA"))
    put(folder, "mimic-cxr-2.0.0-split.csv", table(("dicom_id", "study_id", "subject_id", "split"), *splits))
    put(folder, "mimic-cxr-2.0.0-metadata.csv", table(("dicom_id", "ViewPosition"), *views))


def dicom_reports(folder, cases):
    rows = []
    for n, case in enumerate(cases):
        grey = np.asarray(Image.open(case.image).convert("L"))
        size = {"Rows": grey.shape[0], "Columns": grey.shape[1], "PixelData": (grey.astype(np.uint16) * 16).tobytes()}
        put(folder, f"{case.id}.dcm", dicom(n, patient=f"MRN-{n}", **size))
        rows.append((f"{case.id}.dcm", report_of(case), case.split))
    put(folder, "questions.csv", table(("image", "report", "split"), *rows))


def report_of(case):
    return next(question.answer for question in case.questions if question.kind == "report")


def phantoms(folder, counts):
    """Phantom cases, rendered into `folder`; {split: images}."""
    return build_cases(folder, counts, seed=7, questions=1, workers=1).cases


BUILDERS = {"openi": openi_reports, "mimic": mimic_reports, "dicom": dicom_reports}
