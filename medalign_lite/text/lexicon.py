"""The words of chest radiology reports, as data: findings, devices, organs, and the CheXpert label of each.

Written for text in lower case with single spaces (`sections.normalise`). Where two names begin at the same character
the one listed first is taken, so the special stand before the general.
"""

# --- findings: name -> regular expressions of what it is called ------------------------------------------------------
_LUNG = r"(?:lung|pulmonary|parenchymal|pulmonic)"
_PLACE = r"(?:(?:right|left|upper|lower|middle|mid|basilar|basal|apical|lobe|lobar|zone|lung) ){0,4}"
_ADJ = (
    r"(?:(?:focal|patchy|hazy|air ?space|air-space|alveolar|interstitial|reticular|reticulonodular|linear|streaky|"
    r"ground[- ]glass|confluent|airspace|parenchymal|pulmonary|lung|infiltrative|basilar|bibasilar|perihilar|"
    r"retrocardiac|strandy|platelike|ill[- ]defined|increased|abnormal|multifocal|diffuse) ){0,6}"
)
_HEART = (
    r"(?:heart(?: and cardiac)?(?: size| shadow| silhouette| contours?)?(?! failure| block| valve| rate| border|"
    r" transplant)|cardiac (?:silhouettes?|size|shadow|contours?|borders?)|cardiac(?=(?:,| and|,? hilar|"
    r"/) ?(?:and )?(?:hilar|mediastin))|cardiothoracic ratio|cardio ?pericardial silhouette)"
)
_MEDIASTINUM = (
    r"(?:(?:superior |upper )?mediastin(?:um|al (?:silhouette|contours?|structures?|width|shadow|borders?|"
    r"outline))(?: and hilar (?:contours?|structures?))?|mediastinal and hilar (?:contours?|structures?)|"
    r"hilar and mediastinal (?:contours?|structures?|silhouettes?)|"
    r"mediastinal(?=,? (?:and )?(?:pulmonary|pleural|cardiac)))"
)

FINDINGS: dict[str, tuple[str, ...]] = {
    # devices first: "chest tube", "heart valve" and "pleural drain" name an organ as well
    "pacemaker": (r"(?:(?:dual|single|triple|bi|three|two|[123])[- ]?(?:lead|chamber|ventricular)[- ])?(?:cardiac |"
        r"av )?(?:pace ?makers?|pacers?|icds?|aicds?|defibrillators?|cardioverters?)(?: (?:device|wires?|leads?|"
        r"generators?|pack))*", r"(?:pacing|pacer|icd|defibrillator|biventricular) (?:wires?|leads?|device|"
        r"generator)s?", r"cardiac devices?",),
    "endotracheal tube": (r"endotracheal(?: tubes?| intubation)?(?! (?:secretion|lumen))", r"e\.?t\.? ?tubes?",
        r"etts?", r"et-tube", r"et(?=/ng|/og| and ng| and og| and nasog| and enteric|, ng)",
        r"(?:oro|naso)tracheal tubes?", r"breathing tube",),
    "tracheostomy": (r"tracheostom(?:y|ies)(?: tubes?| cannula| device)?", r"trach(?: tube)?(?= )"),
    "enteric tube": (r"(?:naso|oro)?-?(?:enteric|gastric|jejunal|duodenal) (?:feeding )?tubes?",
        r"(?:nasogastric|orogastric|nasoenteric|nasojejunal)(?: tubes?)?", r"(?:n\.?g\.?|o\.?g\.?|feeding|"
        r"dob+-?ho?f+|esophageal|g|j|peg)[- ]tubes?", r"ngts?", r"ogts?", r"dob+-?ho?f+(?: tubes?| catheter)?",),
    "chest tube": (r"(?:chest|thoracostomy|pleural|thoracic) (?:tubes?|drains?|drainage catheters?|catheters?|"
        r"pigtails?)", r"pig-?tail(?: (?:catheter|drain|tube)s?)*", r"pleurx(?: catheter)?",
        r"ct(?= to (?:suction|water ?seal))",),
    "central line": (r"(?:(?:central|venous|ij|jugular|subclavian|dialysis|femoral|hemodialysis|tunneled|internal|"
        r"cv|hd|double|triple|dual|lumen|access|port-?a-?cath|picc|infusion|arterial|brachiocephalic|svc|vascular|"
        r"swan[- ]ganz|pulmonary|artery|pa|peripherally|inserted|power|large-bore|chest)[- ]){1,6}(?:lines?|"
        r"catheters?|ports?|sheaths?|cordis|introducers?)", r"piccs?", r"c?vls?(?= )", r"cvcs?", r"cvp",
        r"port-?a?-?cath(?:eter)?s?", r"(?:medi|power|infus[ae]|chemo)-?ports?", r"port(?= (?:tip|catheter|is|in|"
        r"with|remains|again|overl|project))", r"swan(?:[- ]ganz)?(?: catheter)?", r"(?:hickman|permacath|permcath|"
        r"quinton|broviac|groshong|vascath)(?: catheter)?", r"(?:chest|subclavian|ij|jugular)(?: wall)? port(?:s|"
        r"-?a-?cath)?",),
    "clips": (r"(?:(?:surgical|cholecystectomy|axillary|vascular|mediastinal|hemostatic|metallic|cabg) "
        r"){0,6}(?:clips?|staples?)", r"(?:surgical|suture) (?:material|chain|line|sutures?)s?",
        r"sutures?(?= material| line)"),
    "sternotomy wires": (r"(?:median )?(?:sternotomy|sternal|cerclage)(?: (?:wires?|sutures?|changes?|hardware|"
        r"cerclage|fixation))+", r"(?:median )?sternotom(?:y|ies)(?: wires?)?",),
    "valve": (r"(?:(?:prosthetic|mechanical|artificial|bioprosthetic|replaced|aortic|mitral|cardiac|heart|tricuspid)"
        r" ){1,6}valves?(?: (?:prosthes[ie]s|replacements?|repair|ring))?(?! calcif| disease| regurg| stenosis)",
        r"valvuloplasty", r"(?:valve|valvular) (?:replacements?|prosthes[ie]s|repair|ring)", r"tavr|tavi",
        r"annuloplasty(?: ring)?",),
    "drain": (r"(?:surgical |mediastinal |jp |pericardial |abdominal |biliary ){0,6}drains?(?: catheters?)?",
        r"drainage (?:catheter|tube)s?"),
    "stent": (r"(?:(?:coronary|esophageal|tracheal|bronchial|biliary|vascular|aortic|graft) ){0,6}stents?",
        r"endograft", r"ivc filter"),
    "hardware": (r"(?:orthopedic |spinal |fixation |fusion |surgical |metallic ){0,6}hardware",
        r"(?:spinal|harrington) rods?", r"(?:shoulder |hip |humeral |joint ){0,6}(?:arthroplast(?:y|ies)|"
        r"prosthes[ie]s)", r"(?:spinal )?fusion (?:plates?|screws?)", r"(?:fixation|pedicle|surgical) (?:screws?|"
        r"plates?)", r"(?:cervical|spinal) fusion",),
    "other device": (r"(?:intra-?aortic )?balloon pumps?|iabps?|impella|lvads?|ecmo(?: cannulas?)?",
        r"(?:(?:vp|ventriculo-?peritoneal) )?shunt (?:catheters?|tubing|tubes?)", r"(?:vp|ventriculo-?peritoneal) "
        r"shunts?", r"(?:(?:nerve|spinal cord|vagal|neuro)[- ]?)?stimulators?(?: (?:leads?|device))?",
        r"(?:loop |event )?recorders?", r"(?:support|monitoring|implanted|medical|assist|supportive)(?: and \w+)? "
        r"(?:devices?|apparatus)", r"(?:cardiac )?(?:ekg|ecg|monitor(?:ing)?|external|telemetry) (?:leads?|wires?|"
        r"devices?)", r"(?:lines? and tubes?|tubes? and lines?|lines?,? tubes?,? (?:and|or) \w+)",
        r"(?:lines?/tubes?|tubes?/lines?|lines? or tubes?|tubes? or lines?)", r"(?:cannulas?|catheters?|device|"
        r"lines?(?= (?:tip|terminat)))", r"epicardial (?:wires?|leads?)", r"tissue expanders?|breast implants?",
        r"(?<!test )tubes?",),
    # pleura
    "pneumothorax": (r"(?:hydro|hemo)?-?pneumo-?thora(?:x|xes|ces)", r"ptxs?", r"pnx", r"pleural air",
        r"(?:deep sulcus|lung point) sign",),
    "effusion": (r"(?:(?:pleural|parapneumonic|subpulmonic|sub-pulmonic|loculated|sympathetic|layering) "
        r"){0,6}(?<!pericardial )(?<!joint )effusions?", r"pleural(?= (?:or|and|nor) pericardial effusions?)",
        r"pleural (?:fluid|collections?)", r"(?:hemo|hydro|pyo)-?thorax", r"(?:loculated|layering|free|fissural) "
        r"(?:pleural )?fluid", r"fluid (?:in|within|along) the (?:\w+ )?fissures?", r"empyema",
        r"(?:pl\.? )?effs?\.?",),
    "costophrenic blunting": (r"(?:blunt(?:ing|ed)|obscur(?:ation|ed)|obliterat(?:ion|ed))(?: \w+){0,6}? "
        r"(?:costo-?(?:phrenic|diaphragmatic)|cp|sulc(?:us|i))(?: (?:angles?|sulc(?:us|i)|recess(?:es)?))?",
        r"(?:costo-?(?:phrenic|diaphragmatic)|cp)(?: (?:angles?|sulc(?:us|i)|recess))?(?: \w+){0,4}? (?:blunt(?:ing|"
        r"ed)|obscured)",),
    "pleural thickening": (r"(?:(?:bi)?apical |pleural |calcified )?pleural(?:[- ](?:based|parenchymal))?(?: (?:and|"
        r"or) parenchymal)? (?:thickening|scar(?:ring|s)?|plaques?|calcifications?|disease|nodularity|mass(?:es)?|"
        r"abnormalit(?:y|ies)|opacit(?:y|ies)|lesions?)(?<!pleural abnormality)", r"(?:bi)?apical (?:pleural "
        r")?(?:cap(?:ping|s)?|thickening)", r"thickening of the (?:\w+ )?(?:pleura|fissures?)", r"fibrothorax",
        r"pleuro-?parenchymal (?:scar(?:ring)?|thickening|changes?)", r"calcified pleura\w*", r"mesothelioma",
        r"(?:fissural|fissure) thickening", r"thickened pleura",),
    # heart and vessels
    "heart failure": (r"(?:congestive |decompensated )?(?:heart|cardiac) failure", r"chf",
        r"(?<!respiratory )(?<!renal )(?<!hardware )(?<!liver )failure", r"cardiac decompensation"),
    "edema": (r"(?:(?:pulmonary|interstitial|alveolar|airspace|vascular|perihilar|hydrostatic|lung) "
        r"){0,6}(?<!tissue )(?<!peripheral )(?<!subcutaneous )(?:o?edema)(?!tous)", r"(?:volume|fluid) overload",
        r"kerley[- ]?b?(?: lines?)?", r"edematous lungs?", r"interstitial (?:pulmonary )?fluid",),
    "vascular congestion": (r"(?:(?:central|pulmonary|mild|vascular|venous|pulmonary vascular|perihilar|hilar) "
        r"){0,6}(?:vascular |venous )?congestion", r"congestive (?:changes?|pattern)", r"(?:vascular|venous) "
        r"(?:engorgement|indistinctness|prominence|hypertension)", r"(?:engorge(?:d|ment)|indistinct(?:ness)?|"
        r"prominen(?:t|ce)|congested)(?: of)?(?: the)? (?:central )?(?:pulmonary |hilar )?(?:vessels?|"
        r"vascular(?:ity|ture)?|vasculature)", r"vascular (?:markings )?cephali[sz]ation",
        r"cephali[sz]ation(?: of (?:the )?(?:pulmonary )?(?:vessels|vasculature|blood flow))?",
        r"vascular redistribution", r"increased (?:lung |pulmonary )?(?:vascularity|vasculature)",
        r"(?:pulmonary )?(?:vascularity|vasculature|vessels) (?:is|are|appears?|remains?) (?:(?!not )\w+ "
        r")?(?:prominent|engorged|congested|indistinct|increased|cephalized|ill-defined)",),
    "cardiomegaly": (r"cardio-?megaly?", r"(?:cardiac|heart) (?:enlargement|hypertrophy)", r"megalocardia",
        r"(?:enlarg(?:ed|ement)|increased?|prominen(?:t|ce)|large|globular|increase(?: in size)?(?= of| in))(?: of| "
        r"in)?(?: the)? " + _HEART + r"(?! (?:is|are|appears?|remains?) (?:normal|unremarkable))",
        r"(?:left |right )?(?:ventric\w+|atri\w+|biventricular) (?:enlargement|hypertrophy)",),
    "enlarged mediastinum": (r"(?:widen(?:ed|ing)|enlarg(?:ed|ement)|prominen(?:t|ce)|increased?|wide|broadened|"
        r"abnormal)(?: of)?(?: the)? " + _MEDIASTINUM, r"mediastinal (?:widening|enlargement|mass(?:es)?|prominence|"
        r"hematoma)", r"(?:wide|enlarged) mediastinum", r"cardiomediastinal (?:enlargement|widening|prominence)",),
    "pericardial effusion": (r"pericardial effusions?",),
    # lung
    "pneumonia": (r"(?:(?:aspiration|lobar|multifocal|bacterial|viral|atypical|focal|bronchial|community acquired|"
        r"postobstructive) ){0,6}(?:broncho-?)?pneumonias?(?!tis)", r"pnas?", r"(?:superimposed |acute |focal |"
        r"pulmonary |opportunistic ){0,6}(?<!post-)(?<!post )(?:infections?|infectious (?:process(?:es)?|"
        r"etiolog(?:y|ies)|disease|infiltrates?|consolidations?|causes?))", r"pneumonic\b",
        r"pneumonic (?:infiltrates?|consolidations?|process)", r"(?<!post-)(?<!post )infectious(?= |$)",),
    "consolidation": (r"(?:(?:focal|air ?space|air-space|alveolar|lobar|confluent|parenchymal|segmental|lung|"
        r"pulmonary|patchy|dense) ){0,6}consolidat(?:ions?|ive (?:\w+ )?(?:opacit(?:y|ies)|process(?:es)?|changes?|"
        r"disease)|ive|ed(?: lung)?|ing)",),
    "atelectasis": (r"(?:(?:subsegmental|sub-segmental|discoid|linear|platelike|plate-like|compressive|passive|"
        r"bibasilar|basilar|segmental|round|dependent|lobar|streaky) ){0,6}(?:micro)?atelect\w+(?: changes?| "
        r"opacit(?:y|ies)| bands?| densit(?:y|ies)| collapse)?", r"volume loss", r"loss of (?:lung )?volume", _PLACE +
        r"(?:lung |lobe |lobar |pulmonary )collapse", r"collaps(?:e|ed)(?: of| in)?(?: the)?(?: \w+){0,2} (?:lungs?|"
        r"lobes?)", r"collapse(?= of (?:the )?(?:right|left|lung|entire)|/consolidation| or consolidation| and/or "
        r"consolidation|/atel)", r"(?:lobe|lung) (?:is|remains|appears) (?:\w+ )?collapsed", r"atx",),
    "nodule": (r"(?:(?:pulmonary|lung|calcified|noncalcified|non-calcified|solid|spiculated|parenchymal|micro|"
        r"reticulo) ){0,6}(?:micro)?nodul(?:es?|ar(?:ity)?(?: (?:opacit(?:y|ies)|opacification|densit(?:y|ies)|"
        r"lesions?|foc(?:us|i)|infiltrates?))?)(?! thyroid)", r"coin lesions?",),
    "mass": (r"(?:(?:pulmonary|lung|hilar|suprahilar|perihilar|parenchymal|cavitary|spiculated|lobulated|infrahilar|"
        r"soft tissue) ){0,6}mass(?:es)?(?:-like (?:\w+ )?(?:opacit(?:y|ies)|consolidation|densit(?:y|ies)|lesion)"
        r")?(?! effect)", r"(?:pulmonary|lung|cavitary|cavitating|parenchymal|focal lung) lesions?",
        r"(?:(?:primary|bronchogenic|lung|pulmonary|metastatic|underlying|squamous cell|small cell) "
        r"){0,6}(?:malignanc(?:y|ies)|neoplasms?|neoplastic (?:process|disease|lesions?)|carcinomas?|cancers?|"
        r"tumou?rs?|adenocarcinoma|lymphoma)", r"(?:(?:pulmonary|lung|osseous|bony|bone) )?metasta(?:sis|ses|tic "
        r"(?:disease|lesions?|nodules?))", r"neoplastic", r"lung lump",),
    "opacity": ( _ADJ + r"(?:opacit(?:y|ies)|opacifications?|opacified|infiltrates?|infiltrations?|(?<!bone )"
        r"(?<!mineral )(?<!breast )densit(?:y|ies)(?! of the bone))", r"(?:(?:focal|patchy|diffuse|multifocal|"
        r"parenchymal|bilateral|acute) ){0,6}air[- ]?space (?:disease|process|abnormalit(?:y|ies)|changes?)",
        r"alveolar (?:disease|process|filling)", r"(?:(?:coarse(?:ned)?|increased|prominent|accentuated|abnormal|"
        r"thickened) )(?:(?:interstitial|bronchovascular|lung|reticular|pulmonary|chronic) ){1,6}markings?",
        r"(?:(?:coarse(?:ned)?|increased|prominent|chronic|mild|diffuse|septal) ){0,6}(?:interstitial|reticular|"
        r"reticulonodular|septal)(?: lung)? (?:markings?|patterns?|changes?(?! in)|prominence|thickening|"
        r"abnormalit(?:y|ies)|process|disease|reticulations?)", r"interstitial lung disease", r"reticulations?",
        r"(?:peri)?bronchial (?:wall )?(?:thickening|cuffing)", r"(?:(?:lung|parenchymal|pulmonary|apical|biapical|"
        r"linear|basilar|bibasilar|fibrotic|postinflammatory) ){0,6}scar(?:s|ring|red)?(?! from)",
        r"(?:(?:pulmonary|lung|interstitial|basilar|parenchymal|chronic) ){0,6}fibro(?:sis|tic (?:changes?|disease|"
        r"lung disease))", r"haziness|hazy", r"ground[- ]glass", r"silhouetting of the \w+ (?:heart border|"
        r"hemidiaphragm)", r"white-?out", r"air bronchograms?", r"(?:focal )?(?:lung|parenchymal|pulmonary|airspace)"
        r" abnormalit(?:y|ies)",),
    # bone
    "fracture": (r"(?:(?:rib|clavic\w+|vertebral|compression|sternal|humeral|scapular|displaced|nondisplaced|"
        r"non-displaced|acute|healed|healing|old|spine|spinal|insufficiency|stress|pathologic|wedge) "
        r"){0,6}(?:fractures?|fx)(?! line| of (?:the |an? )?(?:\w+ ){0,4}(?:wires?|leads?))", r"fractured ribs?",
        r"fractured(?! (?:\w+ ){0,3}(?:wires?|leads?))", r"broken ribs?",),
    "bone deformity": (r"(?:(?:vertebral|rib|wedge|compression|anterior|posttraumatic|vertebral body|clavicular|"
        r"healed|old) ){1,6}(?:deformit(?:y|ies))", r"deformit(?:y|ies) of (?:the )?(?:\w+ ){0,5}?(?:ribs?|clavicle|"
        r"humerus|scapula)", r"(?:anterior )?wedging(?: of)?", r"(?:vertebral|loss of)(?: vertebral| body)* (?:body "
        r")?height(?: loss)?", r"compression of (?:\w+ )?vertebra\w*",),
    # what CheXpert has no label for, but what is not "no finding"
    "emphysema": (r"(?<!subcutaneous )(?<!surgical )(?<!soft tissue )(?:(?:bullous|centrilobular|severe|pulmonary) "
        r"){0,6}emphysem(?:a|atous)(?: changes?| disease)?", r"copd|chronic obstructive (?:pulmonary|lung|airways?) "
        r"disease|obstructive (?:lung|pulmonary|airways?) disease", r"bull(?:a|ae|ous disease)|blebs?",),
    "hyperinflation": (r"(?:hyper-?(?:inflat|expan|aerat|lucen|disten)\w+|over-?(?:inflat|expan)\w+)",
        r"air[- ]trapping", r"flatten(?:ing|ed)(?: of)?(?: the)?(?: \w+)? (?:hemi)?diaphragms?",),
    "subcutaneous emphysema": (r"(?:subcutaneous|soft tissue|surgical) (?:emphysema|air|gas)",),
    "pneumomediastinum": (r"pneumo-?mediastinum|mediastinal air",),
    "free air": (r"pneumo-?peritoneum|free (?:intra-?peritoneal |sub-?diaphragmatic |abdominal )?(?:air|gas)",
        r"(?:sub-?diaphragmatic|intraperitoneal) (?:free )?(?:air|gas)"),
    "hernia": (r"(?:(?:hiatal|hiatus|diaphragmatic|bochdalek|morgagni|paraesophageal) ){0,6}hernias?",),
    "granuloma": (r"(?:calcified )?granulomas?|granulomat\w+(?: disease| changes?| process| infections?)?|"
        r"histoplasmosis(?: infection)?|sarcoid\w*",),
    "aortic disease": (r"(?:tortuous|ectatic|uncoiled|unfolded|calcified|dilated|atherosclerotic|elongated|"
        r"prominent)(?: and \w+)?(?: thoracic| descending| ascending)* aort\w+", r"aort\w+ (?:is |appears? |"
        r"remains? )?(?:\w+ )?(?:tortuous|ectatic|tortuosity|ectasia|uncoiled|unfolded|dilated|aneurysm\w*|"
        r"atherosclero\w+(?! (?:\w+ )?calcif))", r"aneurysm\w*", r"atherosclero\w+(?: (?:vascular )?(?:disease|"
        r"changes?))?(?! calcif)|(?:calcific )?atherom\w+", r"(?:aortic|arch) calcifications?|aort\w+ (?:\w+ "
        r"){0,2}?calcified", r"(?:atherosclerotic |vascular )*calcific\w+ (?:\w+ )?(?:of|in|along) the (?:\w+ "
        r"){0,3}?aort\w+", r"(?:tortuosity|ectasia)(?: (?:and|or) (?:tortuosity|ectasia))? of the (?:\w+ ){0,6}aorta",),
    "calcification": (r"(?:(?:aortic|vascular|arterial|atherosclerotic|mitral|annular|annulus|valve|arch|coronary|"
        r"hilar|nodal) ){0,6}calcifi(?:cations?|ed)",),
    "scoliosis": (r"(?:kypho)?scolio\w+(?: curvature)?|dextro\w+|levo(?:scoliosis|curvature)|s-shaped curvature",),
    "kyphosis": (r"(?:hyper)?kypho(?:sis|tic)(?: curvature| deformity)?",),
    "degenerative change": (r"degenerative(?: \w+){0,2}? ?(?:changes?|disease|spurring|disc disease)?",
        r"degeneration of the (?:\w+ ){0,3}spine", r"osteophyt\w+|spondyl\w+|spurring|arthritis|osteoarthritis|"
        r"arthropathy|dish",),
    "osteopenia": (r"osteopeni\w+|osteopor\w+|(?:bony |bone )?demineraliz\w+",),
    "lymphadenopathy": (r"(?:(?:hilar|mediastinal|paratracheal|bilateral|bihilar) ){0,6}(?:lymph)?adenopathy",
        r"hilar (?:enlargement|prominence|fullness)", r"(?:enlarg(?:ed|ement)|prominen(?:t|ce)|full(?:ness)?)(?: "
        r"of)?(?: the)?(?: \w+)? hil(?:um|a|ar\b(?: (?:lymph )?nodes?)?)(?! contours? (?:is|are) normal)",
        r"enlarged (?:\w+ )?lymph nodes?",),
    "raised diaphragm": (r"(?:elevat(?:ed|ion)|eventrat(?:ed|ion)|raised|tenting)(?: of)?(?: the)?(?: \w+){0,2} "
        r"(?:hemi-?)?diaphragms?", r"eventration", r"hemi-?diaphragm (?:is |remains |appears )?(?:(?!not )\w+ "
        r")?(?:elevated|elevation)",),
    "aspiration": (r"aspiration(?! pneumon)(?: event| pneumonitis)?|pneumonitis",),
    "bronchitis": (r"bronchi(?:tis|olitis|ectasis|ectatic)(?: changes?)?|(?:small |reactive )airways? disease|"
        r"asthma|bronchitic changes?",),
    "cavity": (r"cavit(?:y|ies|ation|ary)",),
    "hemorrhage": (r"(?:pulmonary |alveolar )?h(?:a)?emorrhages?|(?:pulmonary )?contusions?|hematomas?",),
    "tuberculosis": (r"tuberculosis|tb(?= |$)",),
    # head and abdomen
    "infarct": (r"(?:(?:acute|subacute|chronic|old|lacunar|embolic|ischemic|[amp]ca|cerebral|cerebellar|territory) "
        r")*(?:infarct(?:s|ions?)?|strokes?)",),
    "midline shift": (r"(?:midline|mediastinal|tracheal|leftward|rightward)(?: mediastinal| tracheal)? (?:shift|"
        r"deviation)", r"(?:shift|deviation|displacement) of (?:the )?(?:midline|mediastin\w+|trachea)(?: "
        r"structures)?", r"(?:mediastin\w+|trachea|midline)(?: is| are)? (?:mildly )?(?:shifted|deviated|displaced)",),
    "hydronephrosis": (r"hydro(?:uretero)?nephro(?:sis|tic)",),
    "gallstones": (r"gall ?stones?|cholelithiasis",),
    "splenomegaly": (r"(?:hepato)?spleno-?megaly|enlarged spleen",),
    "hepatomegaly": (r"hepato-?megaly|enlarged liver",),
    "ascites": (r"ascit(?:es|ic fluid)",),
    "cyst": (r"(?:(?:simple|complex|renal|hepatic|liver|kidney|ovarian|splenic|pancreatic|arachnoid) )*cysts?",),
    "pulmonary embolism": (r"(?:(?:pulmonary|saddle|lobar|segmental|subsegmental|central|acute|arterial) "
        r")*(?:thrombo)?embol(?:ism|us|i)|filling defects?",),
    "dissection": (r"(?:aortic )?dissection(?: flap)?",),
    "hydrocephalus": (r"hydrocephal\w+|ventriculomegaly",),
    "appendicitis": (r"appendicitis",),
    "diverticulitis": (r"diverticulitis",),
    "diverticulosis": (r"diverticul(?:osis|a)",),
    "cholecystitis": (r"cholecystitis",),
    "pancreatitis": (r"pancreatitis",),
    "abscess": (r"abscess(?:es)?",),
    "obstruction": (r"(?:(?:small|large|bowel|intestinal|gastric|outlet|biliary) )*obstruction",),
    "stones": (r"(?:(?:renal|ureteral|kidney|ureteric|urinary|bladder) )*(?:calcul(?:us|i)|stones?)|(?:nephro|uro)"
        r"lithiasis",),
    "thrombosis": (r"(?:(?:deep|portal|venous|vein) )*thromb(?:osis|us|i)",),
    "stenosis": (r"stenos[ie]s",),
    "mass effect": (r"mass effect",),
    "stranding": (r"(?:(?:fat|perinephric|mesenteric|surrounding) )*stranding",),
    "dislocation": (r"(?:sub)?dislocations?|subluxations?",),
    "joint effusion": (r"joint effusions?|hemarthros[ie]s",),
    "sinus disease": (r"mucosal thickening|(?:sinus|mastoid) (?:disease|opacification)|sinusitis",),
    "foreign body": (r"(?:radio-?opaque |metallic )?foreign (?:body|bodies|objects?)|bullet(?: fragments?)?|shrapnel",),
    "abnormality": (r"(?:(?:significant|radiographic|radiologic|focal|definite|new|visible|gross|other) "
        r"){0,6}(?:acute|active|intrathoracic|intra-thoracic|cardiopulmonary|cardiothoracic|pulmonary|cardiac|"
        r"thoracic)(?:/| or | and |, | )(?:(?:acute|active|focal|intrathoracic|cardiopulmonary|pulmonary|cardiac|"
        r"pleural|thoracic|chest|or|and|infectious|radiographic|traumatic|lung|disease)[ /]){0,8}(?:process(?:es)?|"
        r"diseases?|abnormalit(?:y|ies)|findings?(?! (?:to|suspicious|concerning|suggest|of|consistent))|"
        r"patholog(?:y|ies)|changes?(?! (?:in|of|from|since))|illness|injury)", r"abnormalit(?:y|ies)",),
    "bone abnormality": (r"(?:(?:acute|focal|suspicious|significant|displaced|visible|gross|aggressive|destructive|"
        r"or|and|new|definite|visuali[sz]ed) ){0,6}(?:osseous|bony|bone|skeletal|musculoskeletal)(?: or soft tissue|"
        r" structural| thoracic| and soft tissue)? (?:abnormalit(?:y|ies)|lesions?|findings?|process|injur(?:y|ies)|"
        r"patholog(?:y|ies)|destruction|trauma)",),
}  # fmt: skip

DEVICES = (
    "pacemaker", "endotracheal tube", "tracheostomy", "enteric tube", "chest tube", "central line", "clips",
    "sternotomy wires", "valve", "drain", "stent", "hardware", "other device",
)  # fmt: skip

# --- organs: name -> (regular expression, findings that "normal" or "clear" denies) ----------------------------------
ORGANS: dict[str, tuple[str, tuple[str, ...]]] = {
    "density": (r"bone (?:mineral )?density|bone mineraliz\w+", ("osteopenia",)),
    "cardiomediastinum": (r"(?:cardio[- ]?mediast(?:in)?al (?:and hilar )?(?:silhouettes?|contours?|structures?|"
        r"shadow|borders?|outlines?|size)|cardiomediastinum)", ("enlarged mediastinum", "cardiomegaly"),),
    "mediastinum": ( _MEDIASTINUM, ("enlarged mediastinum",)),
    "heart": ( _HEART, ("cardiomegaly",)),
    "lungs": (r"(?:lungs?(?: fields?| parenchyma| bases?| apices)?(?! volumes?| disease| markings?| nodules?| mass| "
        r"scar| cancer)|pulmonary parenchyma|airspaces|hemithora(?:x|ces)|(?:bases?|apex|apices)(?= (?:(?:is|are|"
        r"remains?|appears?) )?(?:\w+ )?clear))", ("nodule", "opacity", "consolidation", "atelectasis"),),
    "pleura": (r"(?:pleural (?:spaces?|surfaces?|margins?|reflections?)|pleurae?)", ("effusion", "pneumothorax"),),
    "angles": (r"(?:(?:costo-?phrenic|cp|costo-?diaphragmatic) (?:angles?|sulci|sulcus|recesses)|lateral sulci)", (
            "effusion", "costophrenic blunting"),),
    "bones": (r"(?:(?:osseous|bony|skeletal|bone) (?:structures?|thorax|elements?|framework)|bony|bones|ribs?|"
        r"clavicles?|thoracic cage|skeletal structures?|visuali[sz]ed skeleton|skeleton|osseous)", ("fracture",),),
    "vessels": (r"(?:pulmonary |central |vascular |and ){0,6}(?:vascularity|vasculature|vessels|vascular "
        r"(?:markings?|pattern|pedicle))", ("edema", "vascular congestion"),),
    "chest": (r"(?:chest(?: (?:x-?ray|radiographs?|film|exam|examination|study|views?))?|radiographs?|cxr|study|"
        r"examination)", ("abnormality",)),
    "nodes": (r"(?:mediastinal |hilar |axillary )*(?:lymph )?nodes", ("lymphadenopathy",)),
    "diaphragm": (r"(?:hemi-?)?diaphragms?", ("raised diaphragm",)),
    "aorta": (r"(?:(?:thoracic|descending|ascending) )*aorta|aortic (?:contours?|arch|knob|silhouette)", (
            "aortic disease",)),
    "spleen": (r"spleen", ("splenomegaly",)),
    "liver": (r"liver", ("hepatomegaly",)),
    "thymus": (r"thymus|thymic (?:shadow|silhouette|contour)", ("enlarged mediastinum",)),
    "trachea": (r"trachea|midline structures?", ("midline shift",)),
    "inflation": (r"lung volumes?|(?:lung )?inflation", ("hyperinflation",)),
    "hila": (r"(?:hila|hilum|hilar (?:contours?|structures?|shadows?))", ("lymphadenopathy",)),
}  # fmt: skip

# --- places ----------------------------------------------------------------------------------------------------------
_UNEVEN = r"(?:greater|more|worse|larger|bigger|> ?|slightly \w+|increased|more so|more \w+|much \w+)"
SIDE_WORDS: dict[str, str] = {
    "bilateral": r"(?:right|left) n?or (?:the )?(?:right|left)|bilateral(?:ly)?|both|b/l|bilat|bibasil\w+|biapical|"
                 r"bihilar|bibasal|bi-basilar|biapices|(?:lung|both) bases|r ?> ?l|l ?> ?r|r ?>> ?l|l ?>> ?r|"
    rf"right(?: side)?,? {_UNEVEN}(?: \w+)?(?: than)?(?: the| on the)? left|"
    rf"left(?: side)?,? {_UNEVEN}(?: \w+)?(?: than)?(?: the| on the)? right",
    "right": r"right(?:-sided)?|rul|rml|rll|rt|r",
    "left": r"left(?:-sided)?|lul|lll|lt|lingular?|l",
}
ZONE_WORDS: dict[str, str] = {
    "upper": r"upper|apical|apex|apices|biapical|rul|lul|suprahilar",
    "mid": r"mid|middle|rml|perihilar|midlung|mid-lung|lingular?|hilar",
    "lower": r"lower|basal|basilar|bibasilar|bibasal|bases?|rll|lll|infrahilar|retrocardiac|basis",
}
SIZE_WORDS: dict[str, str] = {
    "small": r"small(?:-sized)?|tiny|trace|minimal(?:ly)?|mild(?:ly)?|slight(?:ly)?|minor|little|minute|subtle|faint",
    "moderate": r"moderate(?:ly|-sized)?|medium(?:-sized)?",
    "large": r"large(?:-sized)?|big|massive(?:ly)?|marked(?:ly)?|severe(?:ly)?|extensive|huge|gross(?:ly)? enlarged|"
    r"sizable",
}
# Sides that are no place of a finding: chambers and vessels in which a device ends, a rotated patient.
NO_SIDE = (
    r"(?<!to the )(?<!rotated )(?:{words})(?!\w)(?! (?:atri|ventric|main|heart|and left atri|cardiophrenic|"
    r"pulmonary arter|"
    r"brachioceph|innominate|clinical|decubitus|anterior oblique|posterior oblique|lateral (?:view|radiograph)))"
)
NO_SIDE_FINDINGS = frozenset({"cardiomegaly", "enlarged mediastinum", "heart failure", "abnormality",
"sternotomy wires",
                              "endotracheal tube", "enteric tube", "midline shift"})  # fmt: skip

# --- CheXpert (Irvin et al. 2019) ------------------------------------------------------------------------------------
CHEXPERT = (
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema",
    "Consolidation",
    "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture", "Support Devices",
)  # fmt: skip
LABEL_OF: dict[str, str] = {
    "enlarged mediastinum": "Enlarged Cardiomediastinum", "cardiomegaly": "Cardiomegaly", "opacity": "Lung Opacity",
    "nodule": "Lung Lesion", "mass": "Lung Lesion", "edema": "Edema", "heart failure": "Edema",
    "vascular congestion": "Edema", "consolidation": "Consolidation", "pneumonia": "Pneumonia",
    "atelectasis": "Atelectasis", "pneumothorax": "Pneumothorax", "effusion": "Pleural Effusion",
    "costophrenic blunting": "Pleural Effusion", "pleural thickening": "Pleural Other", "fracture": "Fracture",
    "bone deformity": "Fracture",
} | dict.fromkeys(DEVICES, "Support Devices")  # fmt: skip
# Signs that only hint at their label: affirmed, they make it uncertain.
HINTS = frozenset({"vascular congestion", "costophrenic blunting", "bone deformity"})
