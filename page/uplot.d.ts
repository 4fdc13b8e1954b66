// The server has the library at this address.
export { default } from "uplot";
