//! What browsers offer and wgpu's web backend neither reports nor requests: subgroups
//! (<https://github.com/gfx-rs/wgpu/issues/10146>).

use js_sys::{Array, Function, Object, Promise, Reflect};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

fn get(object: &JsValue, key: &str) -> Option<JsValue> {
    let value = Reflect::get(object, &key.into()).ok()?;
    (!value.is_null() && !value.is_undefined()).then_some(value)
}

fn call(object: &JsValue, method: &str, argument: &JsValue) -> Option<JsValue> {
    let method: Function = get(object, method)?.dyn_into().ok()?;
    method.call1(object, argument).ok()
}

/// The GPU that the browser chooses, as JavaScript has it.
pub(crate) struct WebAdapter(JsValue);

impl WebAdapter {
    /// The one that [`pick`](crate::gpus::pick) gets.
    pub async fn find() -> Option<Self> {
        let gpu = get(&get(&js_sys::global(), "navigator")?, "gpu")?;
        let options = Object::new();
        let _ = Reflect::set(
            &options,
            &"powerPreference".into(),
            &"high-performance".into(),
        );
        let promise: Promise = call(&gpu, "requestAdapter", &options)?.dyn_into().ok()?;
        let adapter = JsFuture::from(promise).await.ok()?;
        (!adapter.is_null()).then_some(Self(adapter))
    }

    pub fn has_subgroups(&self) -> bool {
        let features = get(&self.0, "features");
        let found = features.and_then(|f| call(&f, "has", &"subgroups".into()));
        found.is_some_and(|found| found.is_truthy())
    }

    /// The smallest and the largest; 0 where the browser does not say.
    pub fn subgroup_size(&self) -> (u32, u32) {
        let size = |key| {
            let size = get(&self.0, "info").and_then(|info| get(&info, key));
            size.and_then(|size| size.as_f64()).unwrap_or(0.0) as u32
        };
        (size("subgroupMinSize"), size("subgroupMaxSize"))
    }

    /// What `request`, which calls `requestDevice` before it returns, makes with subgroups among the features; `None` if
    /// the browser does not allow it.
    ///
    /// The method is replaced meanwhile: it passes what wgpu asks for on to this adapter, with the feature added.
    pub fn with_subgroups<T>(self, request: impl FnOnce() -> T) -> Option<T> {
        let prototype = get(&get(&js_sys::global(), "GPUAdapter")?, "prototype")?;
        let key = JsValue::from("requestDevice");
        let original: Function = get(&prototype, "requestDevice")?.dyn_into().ok()?;
        let (adapter, inner) = (self.0, original.clone());
        let add = move |descriptor: JsValue| -> Result<JsValue, JsValue> {
            let wanted = get(&descriptor, "requiredFeatures");
            let wanted = wanted.map_or_else(Array::new, |wanted| Array::from(&wanted));
            wanted.push(&"subgroups".into());
            Reflect::set(&descriptor, &"requiredFeatures".into(), &wanted)?;
            inner.call1(&adapter, &descriptor)
        };
        let added = Closure::<dyn FnMut(JsValue) -> Result<JsValue, JsValue>>::new(add);
        let set = |method: &JsValue| Reflect::set(&prototype, &key, method).unwrap_or(false);
        if !set(added.as_ref()) {
            return None;
        }
        let out = request();
        set(&original);
        Some(out)
    }
}
