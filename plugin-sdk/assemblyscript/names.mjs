// Exports the handler's functions under the contract's names, which are no identifiers of the language.

const HANDLER = { setup: "setup", handle: "handle", finish: "finish" };

const HOOKS = {
  verifyRequest: "verify-request",
  handleError: "handle-error",
  handleTimeout: "handle-timeout",
  serviceActions: "service-actions",
};

export default class {
  /** Who imports the hooks exports them: what is exported is what a source file of the program itself exports. */
  async afterParse(parser) {
    this.hasHooks = parser.sources.some((source) => source.internalPath === "build/sdk/hooks");
    if (!this.hasHooks) return;
    const text = await this.readFile("build/sdk/hook_exports.ts", this.baseDir);
    parser.parseFile(text, "build/sdk/hook_exports.ts", true);
  }

  afterCompile(module) {
    rename(module, HANDLER, "exports", "request-handler");
    if (this.hasHooks) rename(module, HOOKS, "hook_exports", "server-hooks");
  }
}

function rename(module, functions, file, contractInterface) {
  for (const [name, contractName] of Object.entries(functions)) {
    module.removeExport(name);
    module.addFunctionExport(`build/sdk/${file}/${name}`, `plugsock:handler/${contractInterface}@0.1.1#${contractName}`);
  }
}
