"""The cues of context, as data: what denies, doubts, dates or only asks for the finding it stands beside.

Written for text in lower case with single spaces (`sections.normalise`); the rules that use them are in `context`.
"""

SEEN = (
    r"(?:seen|present|visible|visuali[sz]ed|identified|noted|detected|evident|apparent|shown|demonstrated|appreciated|"
    r"found|observed|recogni[sz]ed|there|suggested|perceived|discerned|delineated|in evidence|(?:demonstr|appreci|"
    r"detect|identifi|discern|recogni[sz])[ai]ble)"
)
_BE = r"(?:is|are|was|were|be|been|being|'s|have been|has been|had been)"
_MAY = r"(?:may|might|could|would|may also|could also|might also|may possibly)"
_FAINT = r"(?:may|might|could|can|would|may also|could also|might also|may possibly|(?<!^)should)"
_MEAN = (
    r"(?:represent|reflect|indicate|suggest|be(?! excluded| ruled| seen| present| removed| considered)|relate to|"
    r"be related to|include|"
    r"signify|correspond|account for|have|mean|denote|constitute|be seen with|be secondary|be due)"
)
_CHANGE = (
    r"(?:change|increase|decrease|improvement|progression|worsening|interval change|difference|resolution|growth)s?"
)
_OWN_CHANGE = r"degenerat|fibro|interstit|emphys|bronch|cystic|inflam|post|chronic"  # "no degenerative change"
_BETTER = (
    r"(?:decreas(?:ed|ing)|improv(?:ed|ing)|resolving|clearing|diminished|lessened|regressed|smaller|"
    r"less (?:conspicuous|prominent|extensive|apparent|severe))"
)
_LAST = r"(?= ?[.,;)]|$| (?:since|from|compared|in (?:size|extent|appearance|position)|as)\b)"
_GRADE = r"(?:\w+ ){0,3}?"

# kind -> regular expressions. `_f` cues stand in front of what they govern, `_b` behind it; the kinds are tried in this
# order at each character, so what only looks like a negation stands before the negations.
CUES: dict[str, tuple[str, ...]] = {
    "pause": (  # looks like a cue and is none
        r"no doubt", r"not only", r"not necessarily", r"no (?:prior|previous|comparison)[^,;]*?(?:available|"
        r"stud(?:y|ies)|exam\w*|films?|radiographs?)", r"not (?:fully |well |completely |adequately |optimally |"
        r"entirely )?(?:included|imaged|assessed|evaluated|in the field)", r"(?:poorly|suboptimally|incompletely|"
        r"not well|not clearly|not optimally|less well) (?:seen|visuali[sz]ed|evaluated|assessed|delineated|defined|"
        r"demonstrated)", r"no (?:better|worse)", r"not? malposition\w*", r"without complications?",
        r"no complications?(?! such)", r"no (?:definite |obvious )?(?:etiology|explanation|cause) (?:for|of)",
        r"likely (?:chronic|unchanged|stable)", r"if (?:any|needed|necessary|desired|indicated|possible)",),
    "unchanged_b": (r"(?:has|have|is|are) not (?:yet |completely |fully |entirely )*(?:resolved|cleared)",
        r"(?:is|are|has|have|remains?|was|appears?)? ?(?:\w+ly )?(?:not|n't|no)(?: \w+){0,2} (?:changed|different|"
        r"progressed|increased|worsened|improved|decreased)", rf"(?:without|no|with no) (?:(?!{_OWN_CHANGE})\w+ "
        rf"){{0,2}}(?:interval )?" + _CHANGE, r"(?:is|are|remains?|appears?),? (?:likely |grossly |essentially |"
        r"relatively |largely |overall |again )*(?:unchanged|stable|the same)", r"(?:is|are)? ?(?:again|still) "
        r"(?:\w+ )?" + SEEN, r"(?:is|are|remains?) similar|similar(?: in \w+)?(?: to| as| compared| since)",
        rf"(?:unchanged|stable){_LAST}", r"in (?:unchanged|stable|similar) position", r"persists?",
        r"as (?:before|seen previously|on prior)",),
    "resolved_b": (r"(?:is|are|was|were)? ?no longer (?:\w+ )?" + SEEN, r"no longer (?:present|in place|apparent)",
        r"(?:has|have|is|are)? ?(?:now |since |completely |fully |entirely |interval )*resolved",
        r"(?:has|have) (?:now |since |completely |fully |entirely |largely )*(?:cleared|disappeared)",
        r"(?:(?:is|are|has) )?(?:now )?gone", r"removal|extraction", r"(?:has|have|was|were|is|are)? ?(?:been |also "
        r"|now |since |subsequently |interval )*(?:removed|withdrawn completely|discontinued|explanted|pulled)",),
    "better_b": (r"(?:has|have|is|are)? ?(?:nearly|almost|all but|mostly|largely|partially|partly|near) "
        r"(?:completely |entirely )?(?:resolved|cleared)", rf"(?:has|have|is|are)(?: been| now)? (?:\w+ly "
        rf")*{_BETTER}", rf"{_BETTER}{_LAST}", r"(?:shows?|demonstrates?) (?:\w+ )?improvement",),
    "worse_b": (r"(?:has|have|is|are) (?:\w+ )?(?:\w+ly )*(?:increased|worsened|progressed|enlarged|worse|larger|"
        r"grown|more (?:conspicuous|prominent|extensive|apparent|confluent|severe))(?! (?:in size )?on the)",
        r"(?:has|have|is|are) (?:\w+ly )*(?:increasing|worsening|progressing|enlarging|growing)",
        r"increased (?:in size|from|since|compared|in extent|in severity)", rf"(?:increased|larger|worse|"
        rf"worsened){_LAST}", r"(?:worsened|worse)(?: \w+)? (?:since|compared|from|than prior)",),
    "new_b": (r"(?:is|are|appears?|which is) (?:likely |possibly |probably )?new", r"(?:has|have) (?:\w+ "
        r")?(?:developed|appeared|been (?:placed|inserted))", r"(?:was|were|is|are) (?:not|n't) (?:clearly |"
        r"definitely )?(?:seen|present|visible|noted|evident) (?:on|in) (?:the )?(?:prior|previous|earlier|"
        r"comparison)[\w ]*", r"not (?:seen|present|visible|noted|evident) (?:on |in |at )?(?:the )?(?:prior|"
        r"previous|earlier|comparison)[\w ]*", r"not previously (?:seen|present|visible|noted)", rf"new{_LAST}",),
    "doubt_b": (rf"(?:can ?not|can't|could not|couldn't|not|n't)(?: be)? (?:\w+ )?(?:{_BE} )?(?:entirely |"
        rf"completely |definitely |definitively |fully |confidently |reliably |totally |absolutely )*(?:excluded|"
        rf"ruled out|discounted|eliminated)", r"favou?red(?= over| ?[.,;)]|$)", r"(?:is |are )?(?:difficult|hard|"
        r"impossible|unable) to (?:entirely |completely |definitively )?(?:exclude|rule out)(?= ?[.,;)]|$| on\b| "
        r"with\b| in\b)", rf"{_MAY} be (?:\w+ )?{SEEN}(?<!seen)", rf"{_MAY} (?:\w+ )?be (?:hiding|hidden|lurking|"
        rf"developing|concealed)", r"is (?:conceivable|imaginable)", rf"{_MAY} (?:\w+ )?be seen(?! (?:with|in))",
        rf"{_FAINT} (?:\w+ )?be (?:\w+ )?(?:considered|entertained)", r"(?:must|should) (?:also )?be considered",
        rf"{_BE} (?:\w+ )?considered", rf"(?:{_BE}|remains?|seems?|appears?|also|felt to be) (?:\w+ )?(?:possible|"
        rf"likely|probable|suspected|questionable|questioned|unlikely|doubtful|favored|equivocal|a (?:\w+ "
        rf")?(?:possibility|consideration|concern)|in the differential|uncertain|suggested|of concern|suspicious|"
        rf"not certain)(?= ?[.,;)]|$| (?:in|at|on|given|with|and|but|though|as|because|over|from|within)\b)",
        r"(?:less|more|most) likely(?= ?[.,;)]|$)", r"unlikely(?= ?[.,;)]|$)", r"(?:possible|probable|suspected|"
        r"questioned|questionable)(?= ?[.,;)]|$)", r"(?:in|within) the differential", r"(?:in|given|with) the "
        r"(?:appropriate|correct|proper|right) clinical (?:setting|context|scenario|situation)", r"if clinically \w+",
        r"\(?\?\)?(?= ?$)", r"not excluded", r"vs ?\.?(?= )|versus", r"would be difficult to exclude",),
    "asked_b": (r"(?:(?:is|are) )?(?:hard|difficult|impossible|not possible) to (?:judge|assess|evaluate|determine|"
        r"tell|gauge)", r"(?:can ?not|can't|could not) be (?:\w+ )?(?:assessed|judged|evaluated|determined)",
        r"(?:is|are) not (?:assessable|evaluable)", r"(?:may|might|can|could|would) (?:not be|be (?:missed|obscured|"
        r"hidden|masked|overlooked|invisible|occult)|escape|go un\w+)(?! excluded| ruled| present)",
        r"(?:is|are) (?:easily |often |commonly |sometimes )(?:missed|overlooked|hidden|occult)",
        r"(?:\w+ ){0,2}(?:years?|months?|weeks?) ago", r"(?:is|are) of concern", r"in (?:19|20)\d\d(?!\w)",
        r"protocol", r"(?:is|are) (?:clinically )?suspected(?= ?,? (?:recommend|ct|further|a|dedicated|consider)\b)",
        r"precautions?"),
    "denied_b": (rf"(?:{_BE} |can |do |does |could |has |have )?(?:not|n't|never|cannot)(?! (?:well|fully|"
        rf"completely|optimally|adequately|entirely))(?: \w+)?(?: \w+)?(?: be)? (?:\w+ )?{SEEN}",
        rf"(?:cannot|can't|n't)(?: be)? {SEEN}", r"(?:is|are|was|were) (?:absent|excluded|ruled out|negative(?! "
        r"(?:\w+ )?for)|none)", r"(?:: ?|- ?)?(?:none|absent|negative|nil)(?= ?[.,;)]|$| seen)",
        r":? ?-? ?(?:(?<=[:-] )|(?<=[:-]))(?:no|\(-\)|0|false)(?= ?[.,;)]|$| [a-z]+ ?[:-])",
        r"excluded|ruled out|\(-\)", r"(?:(?:is|are) not|\w*n't) a (?:feature|finding)", r"(?:(?:is|are) "
        r")?(?:nowhere|no more)(?: to be)?(?: " + SEEN + r")?(?= ?[.,;)]|$)", r"(?:(?:is|are|lies?|appears?) "
        r")?(?:well )?within (?:the )?normal (?:limits|range)", r"(?:is|are) (?:wnl|normal|unremarkable)",
        r"not (?:seen|identified|present|visuali[sz]ed|noted|demonstrated)",),
    "unchanged_f": (rf"(?:no|without|not) {_GRADE}(?:interval )?{_CHANGE} (?:in|of|to|from)(?! prior| previous| the "
        rf"prior| the previous)(?: the)?(?: \w+ of)?", r"unchanged", r"stable", r"persist(?:ent|ing)",
        r"persistence of", r"continued", r"again (?:is |are )?(?:seen|noted|demonstrated)(?: is| are)?",
        r"re-?demonstrat(?:ion|ed)(?: of)?", r"once again", r"similar(?: appearing)?(?= \w+)(?! to)", r"ongoing",
        r"residual",),
    "better_f": (r"(?:interval |\w+ly |slight |marked |mild |significant |partial )*(?:decrease|improvement|"
        r"reduction|regression)(?: in)?(?: the)?(?: \w+)? (?:of|in)", r"(?:improv(?:ed|ing)|decreas(?:ed|ing)|"
        r"resolving|clearing|diminish(?:ed|ing)|improved aeration of)", r"(?:partial|near|(?:near(?:ly)?|almost)[- "
        r"](?:complete|total)|subtotal|incomplete|partial interval) (?:clearing|resolution) of",),
    "resolved_f": (r"(?:interval |complete )*resolution of", r"(?:complete(?:ly)? (?:interval )?)(?:clear(?:ing|ed)|"
        r"resol\w+)(?: of)?", r"(?:interval |status post |s/p |post |after |following |since )*removal of",
        r"clearing of", r"interval extubation|extubated|extubation", r"no longer (?:seen|evident|present|visible|"
        r"visuali[sz]ed|demonstrat\w+|identified)?(?= \w)(?! (?:in|on|at|as|with|is|are)\b)",
        r"(?:no|without)(?: \w+)? (?:residual|remaining|recurrent|persistent)", r"resolved",),
    "worse_f": (r"(?:interval |slight |mild |marked |significant )*(?:increase|worsening|progression|enlargement)"
        r"(?: in)?(?: the)?(?: \w+)? (?:of|in)(?! the heart)", r"(?:increasing|worsening|worsened|progressive|"
        r"progressing|enlarging|growing)",),
    "new_f": (r"(?:interval |new )?(?:development|appearance|onset) of", r"new(?:ly)?(?: developed| appearing)?",
        r"(?:has|have) (?:now )?developed", r"now (?:is |are )?(?:seen|present|evident|appears?)",
        r"(?:interval |recent |new |status post |s/p |post |after |following )*(?:placement|insertion|introduction) "
        r"of", r"interval",),
    "doubt_f": (r"(?:can ?not|can't|could not|couldn't|not|n't|unable to|difficult to|hard to|impossible to|does "
        r"not|not possible to)(?: be)?(?: \w+ly)? (?:exclude|rule out|rule-out)(?:s|d)?(?: the possibility of| the "
        r"presence of)?", r"to (?:better )?(?:exclude|rule out)", r"(?:no|without) (?:definite )?evidence to rule "
        r"out", r"(?:cannot|can't) (?:be certain|be sure|tell)[\w ]*?(?:there is|is)?(?= )",
        r"(?:am |is |are )?(?:not|n't) (?:\w+ )?(?:certain|sure|clear|convinced) (?:that|if|whether|of)(?: there "
        r"(?:is|are))?", rf"{_FAINT} (?:\w+ )?(?:\w+ )?{_MEAN}(?: the presence of)?", r"(?:im|un)?possibl[ey]|"
        r"possibility(?: of)?|probabl[ey]|probability of|potential(?:ly)?|perhaps|maybe|presumabl[ey]|presumed|"
        r"conceivabl[ey]", r"(?:most |very |more |less |quite )?likely(?: to)?(?: represent\w*| reflect\w*| due to| "
        r"related to)?|unlikely(?: to)?(?: represent\w*)?|likelihood of", r"suspected?|suspects|suspect for",
        r"question(?:able|ed)?(?: of)?(?! is)|equivocal|borderline|query", r"(?:raise[sd]?|raising|consider|"
        r"considering)(?: the| a)? (?:possibility|question|suspicion|concern)(?: of| for)?|consider(?:ation)?(?: of|"
        r" for)?(?! normal)", r"favou?r(?:ed|s|ing)?(?: to (?:represent|reflect|be))?", r"(?:ddx|differential)(?: "
        r"diagnos[ie]s| considerations?)?(?: would)?(?: includes?| including| is| are| being|:)?",
        r"rather than|instead of|over(?= (?:pneumonia|atelectasis|edema|consolidation|effusion))",
        r"vs ?\.?(?= )|versus", rf"(?:{_MAY}|can) (?:\w+ )?be seen (?:with|in(?: the setting of)?)",
        r"(?:unclear|uncertain|not clear) (?:if|whether)(?: there (?:is|are))?", r"suggestion of|hint of", r"\?",
        r"either", r"(?:could|may|might)(?= \w)(?! (?:be|have|not)\b)", r"differentiat\w+ (?:between|from|of)|"
        r"distinguish\w* (?:between|from)?", r"as well as could be",),
    "hint_f": (  # doubt unless denied: "no opacity to suggest pneumonia"
        r"suggest(?:s|ed|ing|ive)?(?: of| for| the presence of)?|(?:suspicious|concerning|worrisome) (?:for|of)|"
        r"(?:concern|suspicion|worry|concerns) (?:for|of|about)|indicati(?:ve|ng)(?: of)?",
        r"to (?:suggest|indicate)", r"(?:which|that) (?:would|could) (?:suggest|indicate)",),
    "asked_f": (r"correlat(?:e|ion)(?: \w+){0,2} (?:for|with)(?:(?: \w+){0,3}? (?:signs?|symptoms?|evidence) of)?",
        r"insensitive (?:to|for)", r"when(?:ever)? there is", r"in (?:the )?(?:case|event) of",
        r"(?:requested|ordered|obtained|performed|done|taken|asked) to (?:exclude|rule out)",
        r"(?:had|treated)(?! been)", r"(?<!.)(?:were|should)(?: an?)?(?! be)", r"would (?:better )?(?:show|"
        r"demonstrate|detect|reveal|depict)", r"(?:concern(?:ed)?|requested|request|views?) (?:is |are )?(?:for|to)"
        r"(?= (?:rule|exclude|evaluate|assess))", r"(?:to )?(?:evaluat(?:e|ion|ing)|assess(?:ment|ing)?|rule out|"
        r"r/o|look(?:ing)?|screen(?:ing)?|sensitive|sensitivity)(?: for| of)?(?! (?:is|are) unremark)",
        r"(?:past |prior |known |clinical )?(?:history|hx|h/o)(?: of| for)", r"h/o|hx", r"if (?:\w+ )*?(?:suspected|"
        r"concern for|suspicion (?:for|of|is)|there is|symptoms)", r"(?:symptoms?|risk|treated|treatment|therapy|"
        r"workup|work-up) (?:of|for)", r"if(?! any)", r"should(?! be)(?: an?)?", r"r/o|rule out",
        r"(?:patient|pt) with(?! stable)",),
    "denied_f": (r"(?:there (?:is|are) )?no (?:\w+ )?(?:evidence|signs?|suggestion|indication|radiographic "
        r"(?:evidence|signs?))(?: of| for| to suggest)?(?: \w+ of)?", r"no(?!\s*[,.:!?]|\s*$| longer)",
        r"nothing (?:\w+ ){0,4}?(?:to )?(?:suggest|indicat|point|speak|in the way)(?:s|es?|ing)?(?: to| for| "
        r"of)?(?: an?| the)?(?: of)?", r"nothing of (?:an?|the)", r"none of (?:the |these )?\w+ (?:shows?|"
        r"demonstrates?|reveals?)", r"(?:unaccompanied|not accompanied) by", r"unassociated with",
        r"nowhere (?:is|are) there", r"no longer (?:is|are) there(?: an?| any)?", r"no longer (?:an?|any)",
        r"(?:nil|zero|devoid of|free from|bare of)(?: any)?", r"\w*n't see(?: an?)?", r"without(?: \w+)? "
        r"(?:evidence|signs?) of", r"without", r"w/o", r"(?:free|clear) of", r"negative (?:\w+ )?for",
        r"unremarkable for", r"neither", r"nor", r"lack(?:s|ing)?(?: of)?", r"absence of", r"absent(?= \w)", r"never",
        r"(?:fails?|failed) to", r"cannot|can't|not|n't", r"exclud(?:es|ing)", r"rules? out",),
    "old_b": (r"(?:is|are|appears?|which appears?) (?:\w+ )?(?:old|healed|chronic|longstanding|remote)",),
    "old_f": (r"(?:old|healed|healing|chronic|remote|prior|previous(?= (?:\w+ )?infect)|longstanding|long-standing|"
        r"sequelae? of)",),
}  # fmt: skip
