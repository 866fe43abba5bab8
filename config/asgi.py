"""The ASGI application: Django for HTTP, the OCPP consumer for websockets."""

import os
import warnings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

from channels.routing import ProtocolTypeRouter
from django.core.asgi import get_asgi_application

http = get_asgi_application()  # Django is set up by this

from stations.ocpp.consumer import OcppConsumer  # noqa: E402

# WhiteNoise hands files over as plain iterators; they are small, so that is fine.
warnings.filterwarnings("ignore", "StreamingHttpResponse must consume synchronous iterators")

application = ProtocolTypeRouter({"http": http, "websocket": OcppConsumer.as_asgi()})
