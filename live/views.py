"""The one view of every live fragment: the same text as in the page and in the push."""

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.cache import cache_control
from django.views.decorators.http import conditional_page, require_safe

from live.registry import noun_named


@require_safe
@login_required
@cache_control(private=True, no_cache=True)
@conditional_page
def fragment(request: HttpRequest, noun: str, pk: str, name: str) -> HttpResponse:
    found = noun_named(noun)
    if found is None or not found.is_readable(request.user, pk):
        raise Http404
    for part in found.fragments:
        if part.name == name:
            return HttpResponse(part.render(found.load(pk)))
    raise Http404
