"""A tiny data set in every layout that is read, written by hand: three pictures whose texts name them.

Picture and text of one case share a word of WORDS (in layouts that know labels only: a label of LABELS), so that a text
beside the wrong picture is seen at once. The words differ in every place, so that no slip of a byte turns one into
another.
"""

import csv
import gzip
import io
import json
import struct
import zlib

import numpy as np
from PIL import Image

WORDS = ("alpine", "borrow", "cactus")
LABELS = ("Mass", "Hernia", "Fibrosis")
SIZE = (24, 20)  # width, height


def pixels(number, mode="L"):
    """uint8 (H, W) or (H, W, 3), another one for every number."""
    shape = SIZE[::-1] if mode == "L" else (*SIZE[::-1], 3)
    return np.random.default_rng(number).integers(0, 255, shape, dtype=np.uint8)


def encoded(picture, form="PNG", **options):
    """The bytes of an image file of this array or image."""
    stream = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(stream, format=form, **options)
    return stream.getvalue()


def png(number):
    return encoded(pixels(number))


def parquet_of(rows):
    import pyarrow
    import pyarrow.parquet

    stream = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), stream, write_page_checksum=True)
    return stream.getvalue()


def png_by_hand(size, bits, colour, rows):
    """A PNG file of this header over these raw bytes, whether they fit or not; Pillow writes no such files."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", *size, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def put(folder, name, content):
    """Write text or bytes to `folder`/`name`."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def table(*rows):
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()


def record(name, ask=None, **changes):
    """A line of cases.jsonl with one question; `ask` are changes of that."""
    question = {"id": "q1", "text": "Is there a mass?", "answer": "Yes", "kind": "closed", "topic": "presence"}
    case = {"id": name, "group": name, "split": "train", "image": f"images/{name}.png"}
    return case | {"questions": [question | (ask or {})]} | changes


def kit(folder):
    marks = ({"box": [2, 3, 5, 6]}, {"polygons": [[2, 3, 9, 3, 9, 12]]}, {"points": [[4.5, 6]], "made_by": None})
    lines = []
    for n, word in enumerate(WORDS):
        put(folder, f"images/{word}.png", png(n))
        ask = {"text": f"Is this {word}?", "answer": word, "kind": "open"}
        lines.append(json.dumps(record(word, ask, lesions=[{"label": f"{word} spot"} | marks[n]])))
    put(folder, "cases.jsonl", "\n".join(lines))


def slake(folder):
    for n, (word, name) in enumerate(zip(WORDS, ("train", "validate", "test"), strict=True)):
        put(folder, f"imgs/{word}/source.jpg", encoded(pixels(n), "JPEG"))
        labels = np.zeros(SIZE[::-1], np.uint8)
        labels[4:9, 5:10] = 175
        put(folder, f"imgs/{word}/mask.png", encoded(labels))
        put(folder, f"imgs/{word}/detection.json", json.dumps([{"Liver Cancer": [5, 4, 5, 5]}]))
        entry = {"img_name": f"{word}/source.jpg", "question": f"Is this {word}?", "answer": word, "q_lang": "en",
                 "modality": "CT", "answer_type": "OPEN", "content_type": "Organ", "qid": n}
        put(folder, f"{name}.json", json.dumps([entry]))
    put(folder, "mask.txt", "70:Liver\n175:Liver Cancer\n")


def vqa_rad(folder):
    """Each picture has two training questions; the last one has a question in the test as well."""

    def entry(word, qid):
        return {"qid": qid, "image_name": f"{word}.jpg", "image_organ": "HEAD", "answer": word, "answer_type": "OPEN",
                "question_type": "PRES", "question": f"Is this {word}?", "phrase_type": "freeform"}

    for n, word in enumerate(WORDS):
        put(folder, f"images/{word}.jpg", png(n))
    training = [entry(word, 10 * n + k) for n, word in enumerate(WORDS) for k in range(2)]
    put(folder, "trainset.json", json.dumps(training))
    put(folder, "testset.json", json.dumps([entry(WORDS[2], 99) | {"answer": 7, "answer_type": "CLOSED "}]))


def parquet(folder):
    for split, words in (("train", WORDS), ("test", WORDS[2:])):
        rows = [{"image": {"bytes": png(WORDS.index(word)), "path": None}, "question": f"Is this {word}?",
                 "answer": word} for word in words]
        put(folder, f"data/{split}-00000-of-00001-abc.parquet", parquet_of(rows))


def r2gen(folder):
    entries = {}
    for n, (word, split) in enumerate(zip(WORDS, ("train", "val", "test"), strict=True)):
        views = [f"{word}_IM-1/{view}.png" for view in (0, 1)]
        for view in views:
            put(folder, f"images/{view}", png(n))
        report = f"The {word} is clear."
        entries[split] = [{"id": f"{word}_IM-1", "report": report, "image_path": views, "split": split}]
    put(folder, "annotation.json", json.dumps(entries))


def openi(folder):
    for n, word in enumerate(WORDS):
        put(folder, f"NLMCXR_png/{word}-1001.png", png(n))
        put(folder, f"ecgen-radiology/{n}.xml", openi_xml(f"The {word} is clear.", f"Normal {word}.", f"{word}-1001"))


def openi_xml(findings, impression, image):
    return f"""<?xml version="1.0" encoding="utf-8"?>
<eCitation><MedlineCitation><Article><Abstract>
<AbstractText Label="COMPARISON">none</AbstractText>
<AbstractText Label="FINDINGS">{findings}</AbstractText>
<AbstractText Label="IMPRESSION">{impression}</AbstractText>
</Abstract></Article></MedlineCitation>
<parentImage id="{image}"><figureId>F1</figureId></parentImage></eCitation>"""


def mimic_cxr(folder):
    split, metadata, chexpert = [], [], []
    for n, (word, name) in enumerate(zip(WORDS, ("train", "validate", "test"), strict=True)):
        subject, study = 11111111 * (n + 1), 44444444 + 11111111 * n
        place = f"files/p{str(subject)[:2]}/p{subject}/s{study}"
        put(folder, f"{place}/{word}.jpg", png(n))
        put(folder, f"{place}.txt", f"EXAMINATION: CHEST\n\nFINDINGS:\nThe {word}\n is clear.\n\nIMPRESSION: None.\n")
        split += [(word, study, subject, name), (f"{word}-lat", study, subject, name)]
        metadata += [(word, "PA"), (f"{word}-lat", "LATERAL")]
        chexpert.append((subject, study, "", "1.0", "0.0", "-1.0"))
    split = table(("dicom_id", "study_id", "subject_id", "split"), *split)
    put(folder, "mimic-cxr-2.0.0-split.csv.gz", gzip.compress(split.encode(), mtime=0))
    put(folder, "mimic-cxr-2.0.0-metadata.csv", table(("dicom_id", "ViewPosition"), *metadata))
    header = ("subject_id", "study_id", "No Finding", "Edema", "Pneumonia", "Fracture")
    put(folder, "mimic-cxr-2.0.0-chexpert.csv", table(header, *chexpert))


def nih(folder):
    entries, boxes = [], []
    for n, (word, label) in enumerate(zip(WORDS, LABELS, strict=True)):
        put(folder, f"images_00{n}/images/{word}_000.png", png(n))
        entries.append((f"{word}_000.png", label, n, n))
        boxes.append((f"{word}_000.png", label, 3.5, 4, 6, 7, "", "", ""))
    put(folder, "Data_Entry_2017.csv", table(("Image Index", "Finding Labels", "Follow-up #", "Patient ID"), *entries))
    header = "Image Index,Finding Label,Bbox [x,y,w,h],,,\n"  # as published: the name of the box column holds commas
    put(folder, "BBox_List_2017.csv", header + table(*boxes))
    put(folder, "test_list.txt", f"{WORDS[2]}_000.png\n")


def vindr(folder):
    rows = []
    for n, (word, label) in enumerate(zip(WORDS, LABELS, strict=True)):
        put(folder, f"train/{word}.dicom", dicom(n))
        rows += [(word, label, f"R{reader}", 3, 4, 9 + reader, 11) for reader in (1, 2)]
        rows.append((word, "Cardiomegaly", "R3", 1, 2, 8, 9))
        rows.append((word, "No finding", "R4", "", "", "", ""))
    header = ("image_id", "class_name", "rad_id", "x_min", "y_min", "x_max", "y_max")
    put(folder, "train.csv", table(header, *rows))


def coco(folder):
    images, annotations = [], []
    for n, word in enumerate(WORDS):
        put(folder, f"images/{word}.png", png(n))
        number = 111 * (n + 1)  # no slip of a digit makes one id another
        images.append({"id": number, "file_name": f"{word}.png", "width": SIZE[0], "height": SIZE[1]})
        drawn = {"segmentation": [[3, 4, 9, 4, 9, 11, 3, 11]]} if n else {}
        annotations.append({"id": n, "image_id": number, "category_id": number, "bbox": [3, 4, 6, 7]} | drawn)
    categories = [{"id": 111 * (n + 1), "name": label} for n, label in enumerate(LABELS)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    put(folder, "instances_train.json", json.dumps(content))


def pmc_vqa(folder):
    header = ("Figure_path", "Question", "Answer", "Choice A", "Choice B", "Choice C", "Choice D", "Answer_label")
    rows = {"train": [], "test": []}
    for n, word in enumerate(WORDS):
        put(folder, f"images/{word}_1.png", png(n))
        options = [f" {letter}:{text} " for letter, text in zip("ABCD", (word, "ochre", "umber", "sepia"))]
        options[0], options[n] = options[n].replace("ABCD"[n], "A"), options[0].replace("A:", "ABCD"[n] + ":")
        row = (f"{word}_1.png", f"Which is {word}?", word, *options, "ABCD"[n])
        rows["test" if n == 2 else "train"].append(row)
    for split, found in rows.items():
        put(folder, f"{split}.csv", table(header, *found))


def omnimedvqa(folder):
    for n, word in enumerate(WORDS):
        put(folder, f"Images/{word}/{word}.png", png(n))
        entry = {"dataset": word, "question_id": f"{word}_0", "question_type": "Anatomy Identification",
                 "question": f"Is it {word}?", "gt_answer": f"{word}.", "image_path": f"Images/{word}/{word}.png",
                 "option_A": "ochre", "option_B": word, "modality_type": "CT"}
        put(folder, f"QA_information/Open-access/{word}.json", json.dumps([entry]))


def mmmu(folder):
    for n, (word, subject) in enumerate(zip(WORDS, ("Pharmacy", "Public_Health", "Clinical_Medicine"))):
        row = {
            "id": f"validation_{subject}_{n}", "question": f"<image 1> Is it {word}?", "options": str(["ochre", word]),
            "image_1": {"bytes": png(n), "path": None}, "image_2": None, "answer": "B",
            "question_type": "multiple-choice",
        }  # fmt: skip
        put(folder, f"{subject}/validation-00000-of-00001.parquet", parquet_of([row]))


def vqa_med(folder):
    places = {"train": "ImageClef-2019-VQA-Med-Training/All_QA_Pairs_train.txt",
              "val": "ImageClef-2019-VQA-Med-Validation/All_QA_Pairs_val.txt",
              "test": "VQAMed2019Test/VQAMed2019_Test_Questions_w_Ref_Answers.txt"}  # fmt: skip
    for n, (word, (split, place)) in enumerate(zip(WORDS, places.items())):
        put(folder, f"{place.split('/')[0]}/{split}_images/{word}.jpg", png(n))
        category, more = ("|plane", "#something else") if n == 2 else ("", "")
        line = f"{word}{category}|is it {word}?|(the) {word}{more}\n"
        put(folder, place, line)


def chexpert(folder):
    header = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", "No Finding")
    header, rows = (*header, "Cardiomegaly", "Pleural Effusion", "Fracture"), []
    for n, word in enumerate(WORDS):
        place = f"train/patient{11111 * (n + 1)}/study1/{word}_frontal.jpg"
        put(folder, place, png(n))
        values = ["0.0" if k != n else "1.0" for k in range(3)]
        place = f"CheXpert-v1.0-small/{place}"
        rows.append((place, "Female", 68, "Frontal", "AP", "", *values))
        rows.append((place.replace("frontal", "lateral"), "Female", 68, "Lateral", "", "", *values))
    put(folder, "train.csv", table(header, *rows))


def ms_cxr(folder):
    header = ("category_name", "label_text", "path", "x", "y", "w", "h", "image_width", "image_height")
    header, rows = (*header, "dicom_id", "split"), []
    for n, (word, label) in enumerate(zip(WORDS, LABELS)):
        place = f"files/p1{n}/p1{n}000000/s5{n}000000/{word}.jpg"
        put(folder, place, png(n))
        rows.append((label, f"a {word} spot", place, 3, 4, 6, 7, *SIZE, word, ("train", "val", "test")[n]))
    put(folder, "MS_CXR_Local_Alignment_v1.1.0.csv", table(header, *rows))


def padchest_gr(folder):
    entries, rows = [], []
    for n, (word, label) in enumerate(zip(WORDS, LABELS)):
        put(folder, f"Padchest_GR_files/PadChest_GR/{word}.png", png(n))
        found = {"sentence_en": f"A {word} spot.", "labels": [label], "boxes": [[0.25, 0.25, 0.5, 0.75]]}
        entries.append({"StudyID": word, "ImageID": f"{word}.png", "findings": [found]})
        rows.append((word, f"{word}.png", n, ("train", "validation", "test")[n]))
    put(folder, "grounded_reports_20240819.json", json.dumps(entries))
    put(folder, "master_table.csv", table(("StudyID", "ImageID", "PatientID", "split"), *rows))


def rsna(folder):
    rows = []
    for n, word in enumerate(WORDS):
        put(folder, f"stage_2_train_images/{word}.dcm", dicom(n, patient=word))
        rows.append((word, 3, 4, 6, 7, 1) if n else (word, "", "", "", "", 0))
    put(folder, "stage_2_train_labels.csv", table(("patientId", "x", "y", "width", "height", "Target"), *rows))


def dicom_table(folder):
    """DICOM pictures of two patients, one with three frames, and questions.csv."""
    for n, word in enumerate(WORDS):
        put(folder, f"{word}/IM0.dcm", dicom(n, frames=3 if n == 2 else 1, patient=f"MRN-{n // 2}"))
    rows = [(f"{word}/IM0.dcm", 2 if n == 2 else "", f"Is this {word}?", f"{word}, yes", "")
            for n, word in enumerate(WORDS)]
    rows.append((f"{WORDS[0]}/IM0.dcm", "", "", "", f"The {WORDS[0]}, as seen, is clear."))
    put(folder, "questions.csv", table(("image", "frame", "question", "answer", "report"), *rows))


def mixed_table(folder):
    """A 16-bit PNG, a 16-bit TIFF of two pages and a NIfTI volume, and questions.jsonl with a box."""
    deep = [pixels(n).astype(np.uint16) * 200 for n in range(3)]
    put(folder, f"{WORDS[0]}.png", encoded(deep[0]))
    put(folder, f"{WORDS[1]}.tif", paged([deep[2], deep[1]]))
    put(folder, f"{WORDS[2]}.nii.gz", nifti(np.stack([deep[1], deep[2]], axis=-1)))
    files = ((f"{WORDS[0]}.png", None), (f"{WORDS[1]}.tif", 2), (f"{WORDS[2]}.nii.gz", 2))
    lines = []
    for word, (name, frame) in zip(WORDS, files, strict=True):
        box = {"label": f"{word} spot", "x": 2, "y": 3, "width": 5, "height": 6.5}
        lines.append(json.dumps({"image": name, "frame": frame, "question": f"Is this {word}?", "answer": word} | box))
    put(folder, "questions.jsonl", "\n".join(lines))


def dicom(number, *, frames=1, patient="MRN-1", **changes):
    """Bytes of a DICOM file of random 12-bit grey; `changes` are further values of its header."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    levels = np.random.default_rng(number).integers(0, 4096, (frames, *SIZE[::-1]), dtype=np.uint16)
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(number)])
    values = {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.1", "PatientName": "Secret^Sue", "PatientID": patient,
        "PatientBirthDate": "19700101", "StudyInstanceUID": generate_uid(entropy_srcs=[patient]), "Modality": "DX",
        "BodyPartExamined": "CHEST", "ViewPosition": "PA", "Rows": SIZE[1], "Columns": SIZE[0], "BitsAllocated": 16,
        "BitsStored": 12, "HighBit": 11, "PixelRepresentation": 0, "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2", "WindowCenter": 2048, "WindowWidth": 4096,
        "BurnedInAnnotation": "NO", "PixelData": levels.tobytes(),
    }  # fmt: skip
    if frames > 1:
        values["NumberOfFrames"] = frames
    for name, value in (values | changes).items():
        if value is not None:
            setattr(dataset, name, value)
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def paged(pages, form="TIFF"):
    first, *others = map(Image.fromarray, pages)
    return encoded(first, form, save_all=True, append_images=others)


def nifti(volume):
    import nibabel

    return gzip.compress(nibabel.Nifti1Image(volume, np.diag([1.0, 1, 1, 1])).to_bytes(), mtime=0)


BUILDERS = (kit, slake, vqa_rad, parquet, r2gen, openi, mimic_cxr, nih, vindr, coco, dicom_table, mixed_table, pmc_vqa,
            omnimedvqa, mmmu, vqa_med, chexpert, ms_cxr, padchest_gr, rsna)
MADE = ("parquet", "vindr", "coco", "dicom_table", "mixed_table", "mmmu", "rsna")  # need a root for pictures
