"""The address of every live fragment."""

from django.urls import path

from live.views import fragment

app_name = "live"
urlpatterns = [path("<slug:noun>/<str:pk>/<slug:name>/", fragment, name="fragment")]
