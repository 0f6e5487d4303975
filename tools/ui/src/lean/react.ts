// React as a module with names. As it comes it is CommonJS, and every use of it would carry the object it hangs on; build.mjs puts
// this in the place of "react" wherever that is imported.

import * as React from "react";

export const {
  Component,
  createContext,
  forwardRef,
  memo,
  useCallback,
  useContext,
  useDebugValue,
  useEffect,
  useId,
  useLayoutEffect,
  useMemo,
  useRef,
  useState,
  useSyncExternalStore,
} = React;

export default React;
