"""The word lists of the inference: what a segment, a verb or a property's name gives away. Folded, lower case.

Word lists misfire on whole paths (`credentials`, `refresh`): rules look at the last static segment only, and a list of
the same name beside it wins (rules 16 and 18).
"""


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Rule 16: a last segment that is done, not stored.
ACTIONS = _set(
    "accept acknowledge activate add apply approve archive assign authorize ban block book buy calculate call cancel capture charge "
    "check checkin checkout clear clone close commit compare complete compute confirm convert copy count deactivate decline decrypt "
    "deploy detach diff disable discard dismiss dispatch disconnect download duplicate enable encrypt estimate evaluate execute expire "
    "export extend fetch finalize finish flag flush follow forward fulfill generate hide hold import increment init initialize install "
    "invite invoke join kick leave like lock login logout mark merge migrate move mute notify open order pause pay ping pin play poll "
    "preview process promote provision publish pull purchase purge push quote rate read reactivate recalculate receive reconcile "
    "redeem redo refresh refund regenerate register reindex reject release reload remove rename render renew reopen reorder replay "
    "reply report reprocess request rerun resend reserve reset resize resolve restart restore resubmit resume retry return revert "
    "review revoke rollback rotate run save scale scan schedule segment send settle share ship sign signal skip snooze solve start "
    "stop submit subscribe suspend swap switch sync synchronize terminate test transfer transform transition translate trigger unarchive "
    "unassign unban unblock undo unfollow uninstall unlike unlink unlock unmute unpin unpublish unsubscribe unsuspend upgrade upload "
    "use validate verify vote void wipe withdraw favorite favourite unfavorite star unstar bookmark watch unwatch restock"
)

# Rule 18: authentication and sessions.
AUTH = _set(
    "login logout signin signout signup register authenticate auth token tokens refreshtoken oauth authorize session sessions "
    "forgotpassword resetpassword changepassword recover verifyemail confirmemail otp mfa twofactor sso callback whoami "
    "introspect revoke userinfo jwks credentials"
)
# The caller's own thing: whose it is stands in no path and in no property.
MYSELF = _set("me self myself current profile account whoami mine")

# A first verb of an operationId or summary that changes more than a row (rule: what only prose shows).
SIDE_EFFECTS = _set(
    "buy purchase pay charge refund send resend email notify run execute invoke trigger start stop launch deploy provision transfer "
    "withdraw capture dispatch checkout redeem rotate reset restart reboot encrypt decrypt sign generate calculate compute evaluate "
    "validate verify complete approve reject import init initiate sync synchronize export upload download login logout authenticate revoke"
)

# A segment that announces figures or texts that are computed from rows.
REPORTS = _set(
    "report reports stats statistics metrics analytics summary dashboard inventory count counts usage export exports"
)

HEALTH = _set("ping health healthz healthcheck live livez liveness ready readyz readiness alive heartbeat up")
VERSION = _set("version versions about info build buildinfo")

# Named views (rule 15): a selection that only prose defines.
VIEW_WORDS = _set(
    "latest recent popular trending featured active inactive top mine current upcoming past today default random archived open closed pending nearby related suggested"
)

CREATED = _set(
    "createdat created createdon createdate creationdate datecreated createtime creationtime createtimestamp creationtimestamp "
    "timecreated insertedat createdtime createdtimestamp dateadded addedat"
)
UPDATED = _set(
    "updatedat updated updatedon updatedate dateupdated updatetime lastupdated lastupdate lastupdatedat lastupdatetimestamp "
    "lastupdatetime modifiedat modified modifiedon modificationdate datemodified lastmodified lastmodifiedat lastmodifieddate "
    "lastmodifiedtime timeupdated changedat lastchanged modifiedtime"
)
# Shown by what outlives its deletion.
DELETED = _set("deletedat deletedon deleteddate deletiondate datedeleted deletetime deletiontime isdeleted")
ROW_VERSION = _set(
    "entityversion rowversion lockversion resourceversion objectversion recordversion etagversion revision"
)

# Parameters of lists.
LIMIT = _set(
    "limit size pagesize perpage count maxresults maxitems top first rows take pagelimit max itemsperpage num resultsperpage"
)
OFFSET = _set("offset skip startindex startat from start firstresult")
PAGE = _set("page pagenumber pageno pageindex pagenum currentpage p")
CURSOR = _set(
    "cursor after pagetoken continuationtoken nexttoken marker startingafter continue starttoken nextpagetoken aftercursor nextcursor"
)
SORT = _set("sort sortby sorting orderby order ordering sortfield sortkey")
DIRECTION = _set("sortorder direction sortdirection sortdir orderdirection dir sorttype order")
SEARCH = _set("q query search text keyword keywords searchterm term searchtext fulltext")
# They change how a list is told, not what it holds.
HARMLESS = _set(
    "expand fields include embed select view format locale lang language pretty prettyprint verbose timezone tz envelope fieldsets "
    "exclude projection callback indent apiversion"
)
HARMLESS_HEADERS = _set(
    "xrequestid requestid xcorrelationid correlationid traceparent tracestate accept acceptlanguage acceptencoding useragent "
    "contenttype authorization ifnonematch xtraceid xb3traceid xforwardedfor origin referer cachecontrol prefer xclientversion "
    "xapiversion apiversion contentlength cookie host"
)
BEFORE = _set("start from since after begin min minimum gte ge gt earliest startdate fromdate starttime newerthan")
UNTIL = _set("end to until till before max maximum lte le lt latest enddate todate endtime olderthan")

SECRETS = _set("password passwd passphrase passcode newpassword userpassword pwd")
