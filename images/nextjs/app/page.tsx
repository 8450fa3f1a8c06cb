export default function Page() {
  return <h1>Ready</h1>;
}
