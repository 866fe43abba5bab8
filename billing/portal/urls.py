"""URLs of the portal; what its codes and tokens let a guest hear, and what staff hear of money."""

from django.urls import include, path
from django.views.i18n import set_language

from billing.portal import explained, links, paying, places, receipts, running, views
from stations import live

live.RESOLVERS |= {
    "c": links.topic_of_code,
    "s": links.topic_of_live,
    "ss": links.topic_of_session,
}
live.HEARINGS |= {
    "charge": live.Hearing("billing.view_charge", "billing.Charge", "session__station__site"),
    "payment": live.Hearing("billing.view_payment", "billing.Payment", "connector__station__site"),
}

urlpatterns = [
    path("", places.home, name="portal-home"),
    path("c/", paying.by_code, name="portal-code"),
    path("c/<str:code>", paying.connector, name="portal-connector"),
    path("c/<str:code>/pay", paying.pay, name="portal-pay"),
    path("s/<str:token>", running.live, name="portal-live"),
    path("s/<str:token>/stop", running.stop, name="portal-stop"),
    path("s/<str:token>/cancel", running.cancel, name="portal-cancel"),
    path("r/<str:token>", receipts.receipt, name="portal-receipt"),
    path("r/<str:token>/<str:number>.pdf", receipts.receipt_pdf, name="portal-receipt-pdf"),
    path(
        "r/<str:token>/<str:number>-<str:form>.xml", receipts.receipt_xml, name="portal-receipt-xml"
    ),
    path("r/<str:token>/signed.xml", explained.signed_xml, name="portal-receipt-signed"),
    path("r/<str:token>/explained", explained.receipt, name="portal-receipt-explained"),
    path("account/sessions/<int:pk>", explained.account, name="portal-account-explained"),
    path("account/", receipts.account, name="portal-account"),
    path("account/redeem", receipts.redeem, name="portal-redeem"),
    path("account/invoices/<str:number>.pdf", receipts.account_pdf, name="portal-account-pdf"),
    path("account/", include("allauth.urls")),
    path("language/", set_language, name="set_language"),
    path("manifest.webmanifest", views.manifest, name="portal-manifest"),
    path("brand.css", views.brand_css, name="portal-brand"),
    path("favicon.ico", views.favicon),
]
