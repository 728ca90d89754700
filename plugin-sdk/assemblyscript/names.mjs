// Exports the handler's functions under the contract's names, which are no identifiers of the language.

const INTERFACE = "plugsock:handler/request-handler@0.1.1";

export default class {
  afterCompile(module) {
    for (const name of ["setup", "handle", "finish"]) {
      module.removeExport(name);
      module.addFunctionExport(`build/sdk/exports/${name}`, `${INTERFACE}#${name}`);
    }
  }
}
