"""The addresses of this app: signing in and out, and one's own API tokens."""

from django.urls import URLPattern, path

from access import api, views

app_name = "access"
urlpatterns = [
    path("sign-in/", views.sign_in, name="sign-in"),
    path("sign-in/once/<str:token>/", views.once, name="once"),
    path("sign-out/", views.sign_out, name="sign-out"),
    path("tokens/", views.tokens, name="tokens"),
    path("tokens/<str:token_id>/revoke/", views.revoke, name="revoke-token"),
    path("namespace/", views.switch_namespace, name="switch-namespace"),
]
api_patterns: list[URLPattern] = [
    path("namespaces", api.NamespacesView.as_view(), name="namespaces"),
    path("namespaces/<str:name>", api.NamespaceView.as_view(), name="namespace"),
    path("tokens", api.TokensView.as_view(), name="tokens"),
    path("tokens/<str:token_id>", api.TokenView.as_view(), name="token"),
]
