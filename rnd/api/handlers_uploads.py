"""Methods about files that wait for `service.create`; they come by `PUT /upload/{name}`."""

from __future__ import annotations

from rnd.api.context import Call
from rnd.api.rendering import JsonMembers, render_page
from rnd.api.uploads import render_upload
from rnd.database import uploads


async def upload_list(call: Call, *, limit: int, after_id: int) -> JsonMembers:
    """Answer `upload.list`."""
    page = await call.api.database.read(lambda conn: uploads.list_uploads(conn, limit=limit, after_id=after_id))
    return render_page(page, render_upload)


async def upload_delete(call: Call, *, name: str) -> JsonMembers:
    """Answer `upload.delete`."""
    await call.api.uploads.delete(name)
    return {"deleted": True, "name": name}
