// The page begins: the token leaves the address before anything else happens, then React takes over.

import { createRoot } from "react-dom/client";
import "./style/tokens.css";
import "./style/base.css";
import "./style/views.css";
import { App } from "./app";
import { Boundary } from "./boundary";
import { keepTokenOfAddress } from "./token";

keepTokenOfAddress();
const root = document.getElementById("root");
if (root) {
  createRoot(root).render(
    <Boundary>
      <App />
    </Boundary>,
  );
}
