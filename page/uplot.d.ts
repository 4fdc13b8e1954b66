// The server serves the library at this address.
export { default } from "uplot";
