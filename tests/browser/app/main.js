// The whole of a user's code: the tests do the rest through the page.
import { Siskin, SiskinError } from "siskin";
Object.assign(window, { Siskin, SiskinError, clients: () => import("./clients.js"), libraries: () => import("./libraries.js"), ready: true });
