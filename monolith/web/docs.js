// @ts-check
// Shows /openapi.json: every operation with its parameters, bodies and answers. Needs nothing from elsewhere.

/** @param {string} name @param {string} text @param {string} [style] */
function element(name, text, style) {
  const made = document.createElement(name);
  made.textContent = text;
  if (style) made.className = style;
  return made;
}

/** @param {any} value */
const json = (value) => element("pre", JSON.stringify(value, null, 2));

/** @param {any} schema @param {any} document_ */
function resolved(schema, document_) {
  const name = schema?.$ref?.split("/").pop();
  return name ? document_.components.schemas[name] : schema;
}

/** @param {any[]} parameters */
function parameterTable(parameters) {
  const table = document.createElement("table");
  for (const parameter of parameters) {
    const line = table.insertRow();
    line.insertCell().textContent = parameter.name + (parameter.required ? " (required)" : "");
    line.insertCell().textContent = parameter.in;
    line.insertCell().textContent = parameter.description ?? "";
  }
  return table;
}

/** @param {HTMLElement} parent @param {any} content @param {any} document_ */
function addContent(parent, content, document_) {
  for (const [type, body] of Object.entries(content ?? {})) {
    parent.append(element("p", type), json(body.example ?? resolved(body.schema, document_)));
  }
}

/** @param {string} path @param {string} method @param {any} operation @param {any} document_ */
function operationView(path, method, operation, document_) {
  const view = document.createElement("details");
  const head = document.createElement("summary");
  head.append(element("span", method.toUpperCase(), "method"), element("code", path), ` ${operation.summary ?? ""}`);
  view.append(head, element("p", operation.description ?? ""));
  if (operation.parameters) view.append(parameterTable(operation.parameters));
  if (operation.requestBody) {
    view.append(element("h4", "Body"));
    addContent(view, operation.requestBody.content, document_);
  }
  for (const [status, answer] of Object.entries(operation.responses)) {
    view.append(element("h4", `${status}: ${answer.description}`));
    if (Number(status) < 300) addContent(view, answer.content, document_);
  }
  return view;
}

const document_ = await (await fetch("/openapi.json")).json();
const list = /** @type {HTMLElement} */ (document.getElementById("operations"));
/** @type {HTMLElement} */ (document.getElementById("description")).textContent = document_.info.description;
for (const [path, methods] of Object.entries(document_.paths)) {
  for (const [method, operation] of Object.entries(methods)) {
    list.append(operationView(path, method, operation, document_));
  }
}
