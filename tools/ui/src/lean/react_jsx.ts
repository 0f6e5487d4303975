// What JSX becomes, by name: see react.ts. In production `jsxs` is `jsx`, and one name for both packs better.

import * as runtime from "react/jsx-runtime";

export const { Fragment, jsx } = runtime;
export { jsx as jsxs };
