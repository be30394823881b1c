/**
 * JSON Patch (RFC 6902) as far as the wire uses it: `add`, `replace`, `remove`.
 *
 * The document is never changed in place: objects on the way to a change are copied, all others are shared with
 * the old document, so a view may compare parts by identity. A patch that does not fit throws `PatchError`; the
 * caller then asks for a full snapshot instead of showing a half-patched one.
 */

export class PatchError extends Error {}

/**
 * @param {any} document
 * @param {{op: string, path: string, value?: any}[]} operations
 * @returns {any} the new document
 */
export function applyPatch(document, operations) {
  let result = document;
  for (const operation of operations) {
    if (typeof operation?.path !== "string") throw new PatchError("an operation without a path");
    const path = pointer(operation.path);
    if (path.length === 0) {
      if (operation.op === "remove") throw new PatchError("cannot remove the whole document");
      result = operation.value;
    } else {
      result = changed(result, path, 0, operation);
    }
  }
  return result;
}

/** RFC 6901: "/a~1b/0" → ["a/b", "0"]. @param {string} text */
function pointer(text) {
  if (text === "") return [];
  if (!text.startsWith("/")) throw new PatchError(`not a JSON pointer: ${text}`);
  return text.slice(1).split("/").map((part) => part.replaceAll("~1", "/").replaceAll("~0", "~"));
}

/** @param {any} node @param {string[]} path @param {number} depth @param {{op: string, value?: any}} operation @returns {any} */
function changed(node, path, depth, operation) {
  const last = depth === path.length - 1;
  if (Array.isArray(node)) {
    const copy = node.slice();
    const index = arrayIndex(path[depth], node.length, last && operation.op === "add");
    if (!last) copy[index] = changed(node[index], path, depth + 1, operation);
    else if (operation.op === "add") copy.splice(index, 0, operation.value);
    else if (operation.op === "replace") copy[index] = operation.value;
    else if (operation.op === "remove") copy.splice(index, 1);
    else throw new PatchError(`unknown operation ${operation.op}`);
    return copy;
  }
  if (node === null || typeof node !== "object") throw new PatchError(`nothing at ${path.join("/")}`);
  const key = path[depth];
  // keys come from AMIGA's data ("__proto__" is as good a model name as any): own properties only
  if (!Object.hasOwn(node, key) && !(last && operation.op === "add")) throw new PatchError(`no ${path.join("/")}`);
  if (last && operation.op === "remove") {
    const { [key]: _gone, ...rest } = node;
    return rest;
  }
  if (last && operation.op !== "add" && operation.op !== "replace") throw new PatchError(`unknown operation ${operation.op}`);
  return { ...node, [key]: last ? operation.value : changed(node[key], path, depth + 1, operation) };
}

/** @param {string} part @param {number} length @param {boolean} adding */
function arrayIndex(part, length, adding) {
  if (part === "-" && adding) return length;
  const index = /^(0|[1-9]\d*)$/.test(part) ? Number(part) : -1;
  if (index < 0 || index > (adding ? length : length - 1)) throw new PatchError(`no array index ${part}`);
  return index;
}
