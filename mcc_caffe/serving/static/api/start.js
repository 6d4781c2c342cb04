// Shows the description of the server's routes, with forms to try them.
"use strict";

SwaggerUIBundle({ url: "/openapi.json", dom_id: "#description", validatorUrl: null });
